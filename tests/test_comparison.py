"""Every repair side by side: cells that stand alone, sweeps, what is carried, and the claims made of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import small_study
import torch
from test_claims import MARGIN
from test_estimate import row

from ctp_lib.claims import each_input as idp_claim
from ctp_lib.claims import every_repair as claim
from ctp_lib.evaluation.latency import latency
from ctp_lib.evaluation.perplexity import PARTS, perplexity
from ctp_lib.evaluation.subject import Subject
from ctp_lib.model import loading
from ctp_lib.model.likelihood import token_nll
from ctp_lib.recovery import base, comparison, each_input, scores
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.lesson import Lesson
from ctp_lib.settings import paths
from ctp_lib.settings.experiments import RepairSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError

LEVEL = Level.parse("50%")
EORA = {"eora": RepairSpec({"rank 2": {"rank": 2}, "rank 1": {"rank": 1}})}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return small_study.asked(tmp_path_factory.mktemp("comparison"))


def with_eora(settings):
    return replace(settings, comparison=replace(settings.comparison, repairs={**settings.comparison.repairs, **EORA}))


@pytest.fixture(scope="module")
def cell(settings):
    return comparison.obtain(settings, "own", LEVEL, "soft_prompt")


def test_the_rate_is_swept_at_the_first_size_and_the_best_serves_all(settings, cell):
    swept = {found["learning_rate"]: found["validation_nll"] for found in cell["swept"]}
    assert {found["point"] for found in cell["swept"]} == {"5 vectors"} and {0.1, 0.5} <= set(swept)
    best = min(swept, key=swept.get)
    assert {found["learning_rate"] for found in cell["perplexity"]} == {best}
    assert {found["at_edge"] for found in cell["perplexity"]} == {best in (min(swept), max(swept))}
    assert {(found["point"], found["swept"]) for found in cell["perplexity"]} == {("5 vectors", True), ("2 vectors", False)}
    assert [answer["point"] for answer in cell["tasks"]] == [comparison.best_size(cell["perplexity"])] and cell["tasks"][0][
        "n"
    ] == 8
    assert len(cell["perplexity"]) == 2 * 2 and {found["evaluated_on"] for found in cell["perplexity"]} == {"broad", "narrow"}


def test_a_score_is_that_of_what_was_kept(settings, cell):
    bench = Bench(settings, "own", LEVEL)
    found = next(one for one in cell["perplexity"] if one["point"] == "2 vectors" and one["evaluated_on"] == "broad")
    kept = comparison.Contest(bench, "soft_prompt").learned("2 vectors", found["learning_rate"], 0)
    nll = token_nll(bench.network, bench.scored["broad"].windows, kept.vectors).double().mean(1)
    assert found["window_nll"] == pytest.approx(nll.tolist(), abs=1e-5) and found["prompt_tokens"] == 2
    assert found["bytes_added"] == 4 * kept.vectors.numel()


def test_a_repair_that_the_study_has_learned_already_is_not_learned_again_and_leaves_its_folder(settings, monkeypatch):
    own = RepairSpec({"5 vectors": {"prompt_tokens": 5}}, rates=(0.1,), full=True)
    repairs = {**settings.comparison.repairs, "soft_prompt": own}
    once = replace(settings, comparison=replace(settings.comparison, repairs=repairs, further_rates=0))
    folder = paths.compared(once, "own", Level(), "soft_prompt")
    Bench(once, "own", Level()).learned("soft_prompt", 0)
    teach = Lesson.teach
    asked = lambda lesson, *rest, **more: pytest.fail("learned twice") if lesson.method.trains else teach(lesson, *rest, **more)  # noqa: E731
    monkeypatch.setattr(Lesson, "teach", asked)
    comparison.obtain(once, "own", Level(), "soft_prompt")
    assert folder.is_dir() and not list(folder.glob("*/adapter_model.safetensors"))


def test_a_new_method_leaves_the_cells_of_the_others_alone(settings, cell, monkeypatch):
    moved = comparison.carried(settings, "own")
    assert {(one["trained_at_level"], one["level"]) for one in moved} == {("3bit", "50%"), ("50%", "3bit")}
    more, asked = with_eora(settings), []
    run = comparison.Contest.held
    monkeypatch.setattr(comparison.Contest, "held", lambda self: asked.append((self.method, str(self.bench.level))) or run(self))
    carry = comparison._carry
    monkeypatch.setattr(comparison, "_carry", lambda found, *rest: asked.append(found["cell"]["method"]) or carry(found, *rest))
    again = comparison.carried(more, "own")
    assert sorted(map(str, asked)) == ["('eora', '3bit')", "('eora', '50%')", "eora", "eora"]
    assert [one for one in again if one["method"] != "eora"] == moved
    assert comparison.of_study(more, "own", ["soft_prompt"])[-1] == cell


def test_what_is_carried_is_the_same_thing_on_other_weights(settings, cell):
    moved = next(one for one in comparison.carried(settings, "own") if one["method"] == "soft_prompt" and one["level"] == "3bit")
    kept = comparison.Contest(Bench(settings, "own", LEVEL), "soft_prompt").learned(moved["point"], moved["learning_rate"], 0)
    other = Bench(settings, "own", Level.parse("3bit"))
    nll = token_nll(other.network, other.scored["broad"].windows, kept.vectors).double().mean(1)
    assert moved["trained_at_level"] == "50%" and moved["window_nll"] == pytest.approx(nll.tolist(), abs=1e-5)


def test_seconds_and_waits_are_kept_apart_and_may_be_gone(settings, cell):
    found = cell["perplexity"][0]
    waits = comparison.waits(settings, "own", LEVEL, "soft_prompt")
    assert set(waits) == {"read", "write", "read, alone", "write, alone"} and min(waits.values()) > 0
    assert comparison.seconds(settings, "own", found) > 0 and "seconds" not in json.dumps(cell)
    assert comparison.waits(settings, "own", LEVEL, "nothing") == {}


def test_impossible_repairs_are_refused(settings):
    def asked(**repairs):
        spec = replace(settings.comparison, repairs={**settings.comparison.repairs, **repairs})
        return base.check_repairs(replace(settings, comparison=spec))

    asked()
    with pytest.raises(ParameterError, match=r"methods\.lora\.rank is 'two'; allowed is a whole number"):
        asked(lora=RepairSpec({"two": {"rank": "two"}}, (0.1,)))
    with pytest.raises(ParameterError, match=r"comparison\.repairs\.norms\.rates is \[\]; allowed is one learning rate"):
        asked(norms=RepairSpec({"all": {}}))
    with pytest.raises(ParameterError, match=r"comparison\.repairs\.lora\.sizes: training is 7; allowed is names with values"):
        asked(lora=RepairSpec({"seven": {"training": 7}}, (0.1,)))
    with pytest.raises(ParameterError, match=r"methods\.dept\.training is 7; allowed is names with values"):
        base.settings_of(replace(settings, methods={"soft_prompt": {}, "dept": {"training": 7}}), "dept")
    with pytest.raises(ParameterError, match="comparison.repairs is 'none'"):
        asked(none=RepairSpec({"nothing": {}}))
    without = {name: one for name, one in settings.comparison.repairs.items() if name != "sink"}
    with pytest.raises(ParameterError, match="a control such as sink"):
        base.check_repairs(replace(settings, comparison=replace(settings.comparison, repairs=without)))


def test_a_rate_at_which_a_training_diverges_is_the_worst_and_ends_nothing(settings, monkeypatch):
    """Without it the sweep goes on; where every training diverges, or another thing fails, that is said."""
    swept = RepairSpec({"5 vectors": {"prompt_tokens": 5}}, rates=(0.1, 0.5))
    repairs = {**settings.comparison.repairs, "soft_prompt": swept}
    asked = replace(settings, comparison=replace(settings.comparison, repairs=repairs, further_rates=0))
    contest, learned, highest = comparison.Contest(Bench(asked, "own", LEVEL), "soft_prompt"), comparison.Contest._learned, 0.3

    def diverges(contest, point, rate, seed):
        if rate > highest:
            raise FloatingPointError(f"the loss is nan at step 3; lower training.learning_rate ({rate})")
        return learned(contest, point, rate, seed)

    monkeypatch.setattr(comparison.Contest, "_learned", diverges)
    found = contest.held()
    assert [row["learning_rate"] for row in found["swept"]] == [0.1] and "Infinity" not in json.dumps(found)
    assert {row["learning_rate"] for row in found["perplexity"]} == {0.1}
    highest = 0.0
    said = r"comparison\.repairs\.soft_prompt\.rates: at 50%, a training diverges at each of 0\.1, 0\.5; take lower rates .*is nan at step 3"
    with pytest.raises(ParameterError, match=said):
        contest.held()

    def fails(*_):
        raise FloatingPointError("a Hessian cannot be inverted")

    monkeypatch.setattr(comparison.saved, "make", fails)
    with pytest.raises(FloatingPointError, match="a Hessian cannot be inverted"):
        contest.held()


def test_reading_and_writing_go_through_all_that_stands_before(settings):
    network = Bench(settings, "own", LEVEL).network
    seen = []

    def before(_, __, given) -> None:
        seen.append((given["input_ids"].shape[1], given["past_key_values"].get_seq_length()))

    hook = network.register_forward_pre_hook(before, with_kwargs=True)
    prompt = network.get_input_embeddings().weight[:3]
    read, write = latency(Subject(network, prompt), torch.arange(10), repeats=2)
    hook.remove()
    assert read > 0 and write > 0 and seen == [(10, 3), (1, 13)] * 3


def test_the_nll_of_each_part_of_a_window_is_that_of_its_tokens(settings):
    network = Bench(settings, "own", LEVEL).network
    windows = torch.randint(0, 50, (5, 24), generator=torch.Generator().manual_seed(0))
    by_token = token_nll(network, windows).double().mean(0).numpy()
    found = perplexity(network, windows, batch_windows=2)
    assert found.part_nll == pytest.approx([part.mean() for part in np.array_split(by_token, PARTS)], abs=1e-6)
    assert len(perplexity(network, windows[:, :4]).part_nll) == 3


# ----------------------------------------------------------------------------------------------------------- the claims


def runs(method: str, nll: float, kl: float, *, seeds: int = 3, **about) -> list[dict]:
    """Three seeds of a method on four documents of one corpus."""
    trained = method not in ("eora", "sink", "none")
    found = []
    for seed in range(seeds):
        shift = 0.001 * (seed - 1) * trained
        one = row(method, *(nll + shift + off for off in (-0.01, 0.0, 0.0, 0.01)), seed=seed)
        apart = [kl + off for off in (-0.01, 0.0, 0.0, 0.01)]
        learned = {"trainable_parameters": 10 * trained, "learning_rate": 0.1 if trained else None, "point": "p", "bytes_added": 40}
        taught = {"level": "75%", "trained_at_level": "75%", "validation_nll": nll, "at_edge": False, "swept": True, "falling": 0.0}
        found.append({**one, "evaluated_on": "broad", "window_kl": apart, "kl": kl, **learned, **taught, **about})
    return found


def side_by_side(settings, *more: dict) -> pd.DataFrame:
    none = [
        {**one, "level": level, "trained_at_level": ""}
        for level, nll in (("75%", 3.0), ("full", 2.0))
        for one in runs("none", nll, 1.0, seeds=1)
    ]
    compared = [
        *runs("sink", 2.9, 1.0),
        *runs("soft_prompt", 2.5, 0.6, point="5 vectors"),
        *(one for found in more for one in found),
    ]
    spec = replace(settings.comparison, repairs={**settings.comparison.repairs, **EORA})
    return claim.table(replace(settings, comparison=spec), "own", compared, none)


@pytest.mark.parametrize(
    ("nll", "kl", "about", "outcome"),
    [
        (2.5, 0.5, {}, "supported"),
        (2.5, 1.2, {}, "contradicted"),  # it adapts
        (2.9, 0.5, {}, "contradicted"),  # a control does as much
        (2.895, 0.5, {}, "contradicted"),
        (2.888, 0.5, {}, "undecided"),
        (2.5, 0.5, {"at_edge": True}, "not measured"),
        (2.5, 0.5, {"falling": 0.02}, "not measured"),
    ],
)
def test_a_repair_beats_the_best_control_and_comes_nearer(settings, nll, kl, about, outcome):
    found = claim.outcomes(side_by_side(settings, runs("lora", nll, kl, **about)), MARGIN).set_index("method")
    assert found.outcome["lora"] == outcome and found.outcome["soft_prompt"] == "supported" and "sink" not in found.index
    assert found.beyond["lora"].mean == pytest.approx(2.9 - nll) and found.nearer["lora"].mean == pytest.approx(1.0 - kl)


def test_one_seed_of_what_is_trained_decides_nothing_and_what_is_not_trained_needs_no_seed(settings):
    table = side_by_side(settings, runs("lora", 2.5, 0.5, seeds=1), runs("eora", 2.4, 0.4, seeds=1))
    found = claim.outcomes(table, MARGIN).set_index("method").outcome
    assert found["lora"] == "undecided" and found["eora"] == "supported"
    assert claim.eora(table, MARGIN).outcome == "supported"


def test_the_size_is_chosen_on_validation_and_not_on_the_test(settings):
    small = runs("lora", 2.2, 0.4, point="small", validation_nll=2.6)
    table = side_by_side(settings, [*runs("lora", 2.4, 0.5, point="large", validation_nll=2.5), *small])
    assert table[table.best & (table.method == "lora")].point.tolist() == ["large"]


def test_the_advice_names_the_cheapest_by_budget(settings):
    table = side_by_side(settings, runs("lora", 2.2, 0.4, bytes_added=5000), runs("norms", 2.6, 0.7, bytes_added=0))
    alone = pd.DataFrame({"level": ["full", "75%", "magnitude:75%"], "ppl": [7.4, 20.1, 15.0], "stored_bytes": [9e5, 1e5, 1.1e5]})
    (said,) = claim.advice(claim.outcomes(table, MARGIN), alone, 7.4)
    assert said.startswith("75% takes the perplexity from 7.4 to 20.1. Without extra bytes: norms tuned (p), perplexity 13.5.")
    little, any_number = "soft prompt (5 vectors), perplexity 12.2", "LoRA (p), perplexity 9.0"
    assert f"With at most 1% more bytes: {little}. With any number of bytes: {any_number}. Without training: no method." in said
    assert said.endswith("For comparison: magnitude:75% without a repair has perplexity 15.0, and takes 10% more bytes than 75%.")
    fewer = alone.assign(stored_bytes=[9e5, 1e5, 0.9e5])
    assert claim.advice(claim.outcomes(table, MARGIN), fewer, 7.4)[0].endswith("takes 10% fewer bytes than 75%.")
    doubtful = side_by_side(settings, runs("norms", 2.6, 0.7, bytes_added=0, falling=0.02))
    (said,) = claim.advice(claim.outcomes(doubtful, MARGIN), alone, 7.4)
    assert "Without extra bytes: norms tuned (p), perplexity 13.5 (not established: not measured)." in said


def test_dept_is_set_beside_a_plain_prompt(settings):
    assert claim.dept(side_by_side(settings, runs("dept", 2.4, 0.5)), MARGIN).outcome == "supported"
    assert claim.dept(side_by_side(settings, runs("dept", 2.505, 0.5)), MARGIN).outcome == "contradicted"
    assert claim.dept(side_by_side(settings, runs("dept", 2.4, 0.5, at_edge=True)), MARGIN).outcome == "not measured"
    assert claim.dept(side_by_side(settings), MARGIN).outcome == "not measured"


def test_dsnot_is_set_beside_the_mask_that_it_starts_from():
    def alone(level: str, nll: float) -> dict:
        return runs("none", nll, 1.0, seeds=1, trainable_parameters=0)[0] | {"level": level}

    rows = [
        alone("wanda:50%", 3.0),
        alone("dsnot:50%", 2.9),
        alone("dsnot:2:4", 9.0),
        alone("wanda:75%", 4.0),
        alone("dsnot:75%", 4.1),
    ]
    verdict = claim.dsnot(rows, "broad", MARGIN)
    assert {cell.name: cell.outcome for cell in verdict.parts[0].cells} == {"dsnot:50%": "supported", "dsnot:75%": "contradicted"}
    assert "wanda:50% 20.1, dsnot:50% 18.2" in verdict.figures and claim.dsnot([], "broad", MARGIN).outcome == "not measured"


# ------------------------------------------------------------------------------------------------ a prompt for each input


def test_the_treatments_of_each_input_by_hand():
    nll = torch.tensor([[1.0, 4.0, 2.0], [2.0, 1.0, 3.0]])
    attention = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    found = each_input.treated(each_input.Scored(nll, torch.zeros(3), attention), best=0)
    assert {name: values.tolist() for name, values in found.items()} == {
        "own choice": [2.0, 1.0, 2.0],
        "random choice": [1.5, 2.5, 2.5],
        "best single": [1.0, 4.0, 2.0],
        "oracle": [1.0, 1.0, 2.0],
    }


def test_the_pool_has_what_exists_and_fits_and_scores_behind_the_tokens_that_choose(settings, cell, monkeypatch):
    bench = Bench(settings, "own", LEVEL)
    whole = each_input.pool(bench, 0, 8)
    assert list(whole) == ["its own", *([] if "5 vectors" not in whole else ["5 vectors"]), "2 vectors", "of narrow", "of 3bit"]
    monkeypatch.setattr(loading, "context", lambda _: 8 + 5 + 2)
    assert list(each_input.pool(bench, 0, 8))[:1] == ["its own"] and sum(map(len, each_input.pool(bench, 0, 8).values())) <= 7
    windows = bench.scored["broad"].windows
    found = each_input.scored(bench, {"its own": whole["its own"]}, windows, 8)
    by_hand = token_nll(bench.network, windows, whole["its own"])[:, 7:].double().mean(1)
    assert found.nll[0].tolist() == pytest.approx(by_hand.tolist(), abs=1e-5)


def test_idp_is_judged_by_input(settings):
    """With as many seeds as all prompts of a pool have: those of other corpora were learned with one here."""
    assert settings.soft_prompt.seeds == (0, 1) and settings.cross_dataset.seeds == (0,)
    found = each_input.obtain(settings, "own", LEVEL)
    assert found == each_input.obtain(settings, "own", LEVEL)
    table = idp_claim.table(found["rows"])
    assert set(table.level) == {"50%", "full"} and set(table.treatment) == set(each_input.TREATMENTS)
    means = table.set_index(["level", "evaluated_on", "treatment"]).ppl.unstack()
    assert (means["oracle"] <= means[["own choice", "random choice", "best single"]].min(axis=1)).all()
    verdict = idp_claim.verdict(table, MARGIN, {})
    assert [len(part.cells) for part in verdict.parts] == [2, 2] and verdict.parts[0].seeds == 1
    chosen = pd.DataFrame(found["pools"]).groupby(["level", "evaluated_on", "seed"]).chosen.sum()
    assert set(chosen) == {len(Bench(settings, "own", LEVEL).scored["broad"].windows)} | {
        len(Bench(settings, "own", LEVEL).scored["narrow"].windows)
    }


def test_another_prompt_in_the_pool_is_another_question(settings, monkeypatch):
    asked, own, known = [], each_input.pool, each_input.cells.known

    def noted(path, wanted):
        return known(path, wanted) if "prompts" not in wanted else asked.append(wanted["prompts"]) or {}

    monkeypatch.setattr(each_input.cells, "known", noted)
    for change in (0.0, 0.0, 1e-3):
        monkeypatch.setattr(
            each_input, "pool", lambda *given, change=change: {name: vectors + change for name, vectors in own(*given).items()}
        )
        each_input.obtain(settings, "own", LEVEL)
    assert asked[0] == asked[1] != asked[2]


def test_a_choice_that_is_the_same_for_all_inputs_is_none(settings):
    pools = [
        {"level": "50%", "evaluated_on": corpus, "seed": seed, "prompt": prompt, "chosen": chosen}
        for corpus, seed, prompt, chosen in (
            ("broad", 0, "a", 4), ("broad", 0, "b", 0), ("broad", 1, "a", 4), ("narrow", 0, "a", 3), ("narrow", 0, "b", 1)
        )
    ]  # fmt: skip
    silent = idp_claim.same_for_all(pools)
    assert silent == {"50% on broad": "all inputs chose the same prompt, a"}
    table = idp_claim.table(each_input.obtain(settings, "own", LEVEL)["rows"])
    for part in idp_claim.verdict(table, MARGIN, silent).parts:
        assert part.silent == silent and [cell.name for cell in part.cells] == ["50% on narrow"]


def test_scores_of_levels_by_other_methods_stand_beside_the_studys(settings):
    more = replace(settings, comparison=replace(settings.comparison, compressors=("rtn:3bit",)))
    assert list(map(str, more.compressed)) == ["full", "3bit", "50%", "rtn:3bit"] and more.level_called("rtn-w3") == "rtn:3bit"
    found = scores.obtain(more, "own", Level.parse("rtn:3bit"), "none")
    assert found["cell"]["level"] == "rtn:3bit" and paths.score(more, "own", Level.parse("rtn:3bit"), "none").exists()
