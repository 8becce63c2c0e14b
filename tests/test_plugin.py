"""Methods out of a file of the reader's own go the whole way: compress, learn, score, table, figure; no file of the library is edited."""

from __future__ import annotations

import shutil
from dataclasses import make_dataclass, replace
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
import repositories
import small_study
import torch
from conftest import HUB, ROOT

from ctp_lib.claims import c2_c3_recovery
from ctp_lib.compression import base, reached, saved
from ctp_lib.evaluation.perplexity import perplexity, perplexity_of
from ctp_lib.evaluation.subject import write_on
from ctp_lib.model import loading
from ctp_lib.recovery import asking, scores
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.lesson import Lesson
from ctp_lib.results import cells, tables
from ctp_lib.run import digests, graph
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError

pytestmark = pytest.mark.medium
LORA = {"rank": 2, "training": {"learning_rate": 0.1}}  # so high that four steps tell
METHODS = {"soft_prompt": {}, "mean_shift": {"strength": 0.5}, "chooser": {}, "norm_scale": {}, "lora": LORA}
HALF = Level.parse("every-second:50%")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copy(Path(__file__).with_name("toys.py"), folder)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    settings = small_study.make(folder, levels=["full", str(HALF)], methods=METHODS)
    return replace(settings, plugins=("toys.py",))


def test_the_graph_knows_them(project):
    found = graph.graph(project)
    assert (
        found["levels"] == ["full", "every-second-s50"]
        and found["methods"] == list(METHODS)
        and found["reads"]["toys.py"] == "toys.py"
    )
    code = digests.collect(project)
    assert "toys.py" in code["compress/every-second-s50"]["modules"] and "toys.py" not in code["compress/full"]["modules"]
    chooser, prompt = code["learn/chooser"], code["learn/soft_prompt"]
    assert "toys.py" in chooser["own_code"]["modules"] and "toys.py" not in prompt["own_code"]["modules"]
    assert chooser["others"]["mean_shift"]["own_settings"] == {"strength": 0.5}


def test_a_level_of_its_own_is_compressed_counted_and_loaded(project):
    network = saved.load(project, "own", HALF)
    assert all((module.weight[:, ::2] == 0).all() for module in loading.compressible(network).values())
    cell = reached.obtain(project, "own", HALF)["reached"]
    assert cell["bits_per_weight"] == pytest.approx(9.0) and {layer["sparsity"] for layer in cell["layers"]} == {0.5}


@pytest.mark.parametrize("name", METHODS)
def test_what_is_learned_repairs_comes_off_and_comes_back(project, name):
    bench = Bench(project, "own", HALF)
    before = {key: weight.clone() for key, weight in bench.network.state_dict().items()}
    windows = bench.scored["broad"].windows
    plain = perplexity(bench.network, windows)
    learned = bench.learned(name, 0)
    with learned.on(bench.network) as subject:
        repaired = perplexity_of(subject, windows)
        text = write_on(subject, bench.tokenizer, windows[0, :8], 5)
    assert (
        repaired.nll != plain.nll and isinstance(text, str) and learned.parameters > 0 and learned.bytes == 4 * learned.parameters
    )
    assert perplexity(bench.network, windows) == plain
    after = bench.network.state_dict()
    assert set(after) == set(before) and all(torch.equal(after[key], weight) for key, weight in before.items())
    again = Bench(project, "own", HALF)
    with again.learned(name, 0).on(again.network) as subject:
        assert perplexity_of(subject, windows) == repaired


def test_a_choice_by_the_input_is_that_of_each_window_alone(project):
    bench = Bench(project, "own", HALF)
    windows = bench.scored["broad"].windows
    with bench.learned("chooser", 0).on(bench.network) as subject:
        chosen = perplexity_of(subject, windows).window_nll
    for row, window in enumerate(windows):
        name = ("soft_prompt", "mean_shift")[int(window[0]) % 2]
        with bench.learned(name, 0).on(bench.network) as subject:
            assert chosen[row] == pytest.approx(perplexity_of(subject, window[None]).nll, abs=1e-5)


def test_they_stand_in_tables_and_figures_by_their_own_name_and_colour(project):
    scored = scores.of_study(project, "own")
    levels = {str(level): reached.obtain(project, "own", level)["reached"] for level in project.levels}
    for name in METHODS:
        table = c2_c3_recovery.table(scored, levels, evaluated_on="broad", method=name)
        assert list(table.index) == ["full", str(HALF)] and table.ppl.gt(0).all()
    figure = c2_c3_recovery.perplexity_by_level(pd.DataFrame(cells.rows(scored)), evaluated_on="broad", settings=project)
    axis = figure.axes[0]
    assert axis.get_title() == "Pruned (every second column)"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[1:3] == ["compressed + soft prompt", "compressed + mean shift"] and len(labels) == 3 + len(METHODS)
    collected = tables.collect(project, "perplexity")
    assert set(collected.method) == {"none", *METHODS} and collected.bytes_added[collected.method == "none"].eq(0).all()


def test_they_are_asked_tasks(project):
    repositories.build(HUB.root)
    bench = Bench(project, "own", HALF)
    rows = [row for name in ("none", "chooser", "lora") for row in asking.ask(bench, bench.learned(name, 0))]
    assert [(row["method"], row["n"], row["chance"]) for row in rows] == [(name, 8, 0.5) for name in ("none", "chooser", "lora")]


def test_a_second_seed_learns_one_seed(project, monkeypatch):
    bench, asked = Bench(project, "own", HALF), []
    for seed in (0, 1):
        bench.learned("soft_prompt", seed)
    teach = Lesson.teach
    monkeypatch.setattr(Lesson, "teach", lambda self, *rest, **more: asked.append(self.seed) or teach(self, *rest, **more))
    more = replace(project, soft_prompt=replace(project.soft_prompt, seeds=(0, 1, 2)))
    for seed in more.soft_prompt.seeds:
        Bench(more, "own", HALF).learned("soft_prompt", seed)
    assert asked == [2]
    windows = replace(more, evaluation=replace(more.evaluation, windows={"validation": 4, "test": 6}))
    for seed in more.soft_prompt.seeds:
        Bench(windows, "own", HALF).learned("soft_prompt", seed)
    assert asked == [2], "more test windows learn nothing"
    other = replace(more, soft_prompt=replace(more.soft_prompt, prompt_tokens=4))
    Bench(other, "own", HALF).learned("soft_prompt", 0)
    assert asked == [2, 0], "another prompt is another"


def test_what_is_wrong_with_a_plugin_is_said(project, tmp_path):
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind")
    for plugins, level, sentence in (
        (("none.py",), "awq:4bit", r"none\.py, which is not there"),
        (("broken.py",), "awq:4bit", r"broken\.py, which does not run: ModuleNotFoundError"),
        ((), "every-second:50%", "method 'every-second' is unknown; the methods of compression are"),
    ):
        asked = replace(project, root=tmp_path, plugins=plugins)
        with pytest.raises(ParameterError, match=sentence):
            base.method_for(Level.parse(level), base.registry(asked))


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        ({"none": {}}, "methods is 'none'; allowed is a method that learns"),
        ({"lora": {"rank": 2}}, r"methods\.lora\.training is {}; allowed is a section with learning_rate"),
        ({"lora": LORA | {"rang": 2}}, r"methods\.lora\.rang is not a parameter; allowed here are rank, targets"),
        ({"soft_prompt": {"prompt_tokens": 20}}, r"methods\.soft_prompt is {'prompt_tokens': 20}; allowed is {}"),
        ({"chooser": {}}, r"methods is \['soft_prompt', 'chooser'\]; allowed is a list with mean_shift, which chooser learns from"),
        ({"lorra": {}}, "method 'lorra' is unknown; the methods of recovery are"),
    ],
)
def test_a_method_that_cannot_be_learned_is_refused_before_any_work(project, methods, sentence):
    with pytest.raises(ParameterError, match=sentence):
        graph.graph(replace(project, methods={"soft_prompt": {}} | methods))


def test_a_plugin_that_takes_a_name_of_the_library_is_refused(project, tmp_path):
    text = Path(__file__).with_name("toys.py").read_text().replace('"norm_scale"', '"lora"')
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ParameterError, match="the name of a method is 'lora'; allowed is one that no other method has"):
        graph.graph(replace(project, root=tmp_path, plugins=("mine.py",), methods={"soft_prompt": {}, "chooser": {}}))


def identities(project, level=HALF):
    return {name: Bench(project, "own", level).lesson(name, 0).identity for name in METHODS}


def differ(one, other):
    return {name for name in METHODS if one[name] != other[name]}


def test_what_was_learned_depends_on_all_that_it_was_learned_from(project):
    before, full = identities(project), identities(project, Level())
    prompt = project.soft_prompt
    vectors = replace(project, soft_prompt=replace(prompt, prompt_tokens=4))
    assert differ(before, identities(vectors)) == {"soft_prompt", "norm_scale", "chooser"}
    steps = replace(project, soft_prompt=replace(prompt, training=replace(prompt.training, steps=3)))
    assert differ(before, identities(steps)) == set(METHODS), "also a method that has no training of its own reads as much text"
    strength = replace(project, methods=METHODS | {"mean_shift": {"strength": 0.1}})
    assert differ(before, identities(strength)) == {"mean_shift", "chooser"}
    calibration = replace(project, compression=replace(project.compression, windows=3))
    assert differ(full, identities(calibration, Level())) == {"mean_shift", "chooser"}, "who looks at that text, also uncompressed"
    assert differ(before, identities(calibration)) == {"mean_shift", "chooser"}, "this compression looks at no text"
    pruned = Level.parse("50%")
    assert differ(identities(project, pruned), identities(calibration, pruned)) == set(METHODS)
    assert "recovery/lesson.py" in before["soft_prompt"]["code"]["modules"]


def test_settings_of_a_plugin_count_by_whatever_names(project):
    """Of the study's own prompts these three say which trainings there are, and not how one is done."""
    kind = make_dataclass("Own", [(name, str) for name in ("seeds", "recipe", "corpus")], frozen=True)
    own = [kind(*("other" if place == changed else "one" for place in range(3))) for changed in range(4)]
    found = [Bench(project, "own", HALF).lesson("mean_shift", 0, settings).identity for settings in own]
    assert all(one != other for one, other in combinations(found, 2))


def test_only_what_a_method_says_it_needs_is_given(project):
    bench = Bench(project, "own", HALF)
    given = {}

    class Nosy(type(bench.lesson("norm_scale", 0).method)):
        def learn(self, network, text, settings, teacher, seed, *, others, **_):
            given.update(text=text, teacher=teacher)
            return others("soft_prompt")

    lesson = bench.lesson("norm_scale", 0)
    vars(lesson)["method"] = Nosy()
    with pytest.raises(ParameterError, match="method 'norm_scale' asks for 'soft_prompt'; name it in `others`"):
        lesson.teach(bench, bench.learned, checkpoint=project.root / "c", label="t")
    assert given["text"].calibration is None
