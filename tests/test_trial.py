"""Try your model: no edit of params.yaml, within the minutes, the same plan when it goes on, and sentences that follow from the numbers."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest
import small_study
from conftest import ROOT

from ctp_lib.run import trial
from ctp_lib.settings import paths, study
from ctp_lib.settings.spec import ParameterError

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    raw = small_study.params()
    raw["recipes"]["distilled"] = raw["recipes"]["distilled"] | {"prompt_tokens": 5}
    folder = small_study.write(tmp_path_factory.mktemp("trial"), raw)
    (folder / "mine").mkdir()
    text = "\n\n".join(path.read_text() for path in sorted((folder / "text").glob("narrow-*")))
    (folder / "mine" / "all.txt").write_text(text)
    return study.load(folder / "params.yaml")


@pytest.mark.parametrize(("model", "text", "corpus"), [("own", "", "broad"), ("./other", "mine/all.txt", "your_text")])
def test_a_model_and_a_text_are_tried_within_the_minutes(base, model, text, corpus):
    settled = trial.settle(base, model, ["50%", "3bit"], text, ["lora"])
    assert settled.study.name.startswith(f"try-{model.removeprefix('./')}-") and list(settled.corpora.sources) == [corpus]
    assert list(settled.methods) == ["soft_prompt", "lora"] and settled.root == base.root
    chosen = trial.fit(settled, 0.02)
    training, windows = chosen.soft_prompt.training, chosen.evaluation.windows
    assert 10 <= training.steps <= 640 and training.warmup_steps < training.steps and 4 <= windows["test"] <= 100
    assert trial.fit(settled, 0.02) == chosen, "the same plan when it goes on"
    found = trial.table(chosen)
    assert list(found.index.unique("level")) == ["full", "50%", "3bit"]
    assert (found.low <= found.gain).all() and (found.gain <= found.high).all() and found.kl.ge(-1e-4).all()
    assert found.seconds["3bit", "compressed + soft prompt"] > 0 == found.added_bytes["3bit", "compressed"]
    assert set(trial.samples(chosen, 6)) >= {"text", "uncompressed", "3bit, compressed + LoRA"}
    assert json.loads((paths.results(chosen) / "plan.json").read_text())["steps"] == training.steps


def test_another_model_of_the_same_name_gets_a_plan_of_its_own(base):
    for name in ("here/twin", "there/twin"):
        shutil.copytree(base.root / "other", base.root / name)
    first, second = (trial.settle(base, name, ["3bit"], "", []) for name in ("here/twin", "there/twin"))
    assert first.study.name == second.study.name
    trial.fit(first, 0.02)
    kept = paths.results(first) / "plan.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"steps": 7}))  # fewer than are ever chosen
    assert trial.fit(first, 0.02).soft_prompt.training.steps == 7 != trial.fit(second, 0.02).soft_prompt.training.steps


def test_the_sentences_follow_from_the_table(base):
    settled = trial.settle(base, "own", ["50%", "3bit"], "", ["lora"])
    rows = {
        ("full", "uncompressed"): (10.0, 0.0, 0.0, 0.0, 8.0), ("50%", "compressed"): (40.0, -1.4, -1.5, -1.3, 4.0),
        ("50%", "compressed + soft prompt"): (20.0, 0.7, 0.6, 0.8, 4.1), ("50%", "compressed + LoRA"): (39.0, 0.0, -0.1, 0.1, 4.2),
        ("3bit", "compressed"): (30.0, -1.1, -1.2, -1.0, 2.0), ("3bit", "compressed + soft prompt"): (33.0, -0.1, -0.15, -0.05, 2.1),
        ("3bit", "compressed + LoRA"): (25.0, 0.2, 0.1, 0.3, 2.2),
    }  # fmt: skip
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["ppl", "gain", "low", "high", "megabytes"])
    table["kl"] = table.ppl / 100
    table.index = pd.MultiIndex.from_tuples(rows, names=["level", "subject"])
    cost, gains, use = trial.advice(settled, table)
    assert cost == "Compression: 50% takes the perplexity from 10.0 to 40.0; 3bit takes the perplexity from 10.0 to 30.0."
    assert (
        "50%, compressed + soft prompt: perplexity 20.0, a clear gain (+0.700 nats per token, +0.600 to +0.800; KL 0.400 to 0.200)."
        in gains
    )
    assert "50%, compressed + LoRA: perplexity 39.0, undecided (+0.000 nats" in gains
    assert "3bit, compressed + soft prompt: perplexity 33.0, clearly worse" in gains
    assert use == "Lowest perplexity, counting only clear gains: 50% with soft prompt, 20.0, 4.1 MB."
    table.loc[("50%", "compressed + LoRA"), ["gain", "low", "high"]] = 0.005, 0.001, 0.009
    assert "50%, compressed + LoRA: perplexity 39.0, no gain that matters (+0.005" in trial.advice(settled, table)[1]
    table.loc[table.index.get_level_values("subject") != "compressed", "low"] = -1.0
    assert trial.advice(settled, table)[2] == "Lowest perplexity, counting only clear gains: 3bit as it is, 30.0, 2.0 MB."


def test_what_cannot_be_tried_is_said(base):
    for model, levels, text, methods, sentence in (
        ("owm", ["3bit"], "", [], "model 'owm' is unknown"),
        ("own", ["3bits"], "", [], "level '3bits' is not a level"),
        ("own", [], "", [], r"levels is \[\]; allowed is one compressed level or more"),
        ("own", ["3bit"], "nowhere/*.txt", [], "no file is called nowhere"),
        ("own", ["3bit"], "", ["lorra"], "method 'lorra' is unknown"),
    ):
        with pytest.raises(ParameterError, match=sentence):
            trial.settle(base, model, levels, text, methods)


def test_the_notebook_asks_for_what_ships():
    text = (ROOT / "notebooks" / "try_your_model.py").read_text()
    assert 'model = "reference"' in text and "minutes = 10\n" in text
    assert "# - `text`: a corpus of the study, or files" in text, "others of params.yaml are not among its sources"
