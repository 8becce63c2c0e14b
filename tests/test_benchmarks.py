"""What is measured side by side is the same work, and every benchmark runs at a toy size. How fast is no matter here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import small_study
import torch
from conftest import ROOT

from benchmarks import (
    compression,
    compression_model,
    distilled_step,
    measure,
    page,
    perplexity,
    prompt_step,
    recipe,
    recipe_page,
    time_to_quality,
    zero_shot,
)
from benchmarks.shapes import SHAPES, forward_flops
from ctp_lib.machine import step_cost
from ctp_lib.model import loading
from ctp_lib.model.likelihood import token_nll
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.settings import study
from ctp_lib.settings.levels import Level
from ctp_lib.text import selection

pytestmark = pytest.mark.medium
TOY = SHAPES["toy"]
MODULES = (prompt_step, distilled_step, perplexity, zero_shot, compression, compression_model)
TIMED = {module.BENCHMARK.name: module.BENCHMARK for module in MODULES}


def test_a_step_of_each_side_sees_the_same_loss_and_moves_the_prompt_alike():
    """The losses before each of two steps of AdamW; the released one divides by the prompt's positions too."""
    batch, candidate = TOY.windows(), step_cost.soft_prompt(TOY.model(), TOY.prompt)
    optimizer = torch.optim.AdamW(candidate.trainable, lr=prompt_step.LEARNING_RATE)
    loop, trainer, released = (
        side(TOY.model(), TOY) for side in (prompt_step.peft_loop, prompt_step.peft_trainer, prompt_step.released)
    )
    for _ in range(2):
        loss = token_nll(candidate.network, batch, candidate.prompt()).mean().detach()
        found = torch.stack([loop(), trainer(), released() * (TOY.positions - 1) / (TOY.length - 1)])
        torch.testing.assert_close(found, loss.expand(3), rtol=1e-5, atol=1e-5)
        candidate.step(batch, optimizer)


def test_perplexity_and_task_scores_agree_side_by_side():
    assert perplexity.ours(TOY.model(), TOY)() == pytest.approx(perplexity.released(TOY.model(), TOY)(), abs=1e-5)
    ours, theirs = zero_shot.ours(TOY.model(), TOY)(), zero_shot.harness(TOY.model(), TOY)()
    assert len(ours) == zero_shot.ITEMS * zero_shot.CHOICES and ours == pytest.approx(theirs, abs=1e-4)


def test_every_solver_gives_the_same_matrix():
    toy = compression.BENCHMARK.catalogue["toy"]
    ours, *theirs = (make(toy.model(), toy)() for make in compression.SIDES.values())
    assert all(len(row.unique()) <= 2**compression.BITS for row in ours)
    for other in theirs:
        torch.testing.assert_close(other, ours, rtol=1e-4, atol=1e-5)


def test_both_solvers_give_the_same_model():
    ours, other = (make(TOY.model(), TOY)() for make in list(compression_model.SIDES.values())[:2])  # gptqmodel's is packed
    for name, module in loading.compressible(ours).items():
        assert all(len(row.unique()) <= 2**compression.BITS for row in module.weight)
        torch.testing.assert_close(other.get_submodule(name).weight, module.weight, rtol=1e-4, atol=1e-5)


def test_operations_by_hand():
    """Two layers: four 32 x 32 and three 32 x 64 matrices each, for 29 positions; a head of 300 x 32 for 24."""
    inner = 2 * (4 * 32 * 32 + 3 * 32 * 64)
    attention = 2 * 2 * 32 * 29**2
    assert forward_flops(TOY.model(), TOY, 3) == (3 * 2 * (inner * 29 + 300 * 32 * 24), 3 * attention)
    matrices, less = forward_flops(TOY.model(), TOY, 3, prompts=1)
    assert matrices == 2 * (inner * (3 * 24 + 5) + 3 * 300 * 32 * 24)
    assert less == 3 * attention - 2 * (2 * 2 * 32 * 5**2)


def test_each_round_begins_with_another_side():
    seen: list[str] = []
    taken = measure.alternate({name: lambda name=name: seen.append(name) for name in "abc"}, 2, before=lambda: seen.append("-"))
    assert "".join(seen) == "-bca-cab-abc"
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 2, "b": 2, "c": 2}, "the first round warms up"


def test_a_ratio_is_theirs_by_ours_round_for_round():
    assert measure.ratio([1.0, 2.0, 4.0], [2.0, 4.0, 4.0]) == {"median": 2.0, "low": 1.0, "high": 2.0}


@pytest.mark.parametrize("name", TIMED)
def test_every_benchmark_runs(name, monkeypatch):
    benchmark = TIMED[name]
    monkeypatch.setattr(
        measure, "peak_bytes", lambda benchmark, shape, side: measure._own_peak(benchmark, benchmark.catalogue[shape], side)
    )
    record = measure.run(benchmark, "toy", rounds=1)
    assert list(record["sides"]) == list(benchmark.sides)
    assert record["sides"][benchmark.ours]["ratio"]["median"] == 1.0 and record["ceiling"] > 0
    assert measure.as_text(record).count("\n") == len(benchmark.sides)


def test_the_command_keeps_what_it_found_and_leaves_other_shapes(tmp_path):
    (tmp_path / "perplexity.json").write_text(json.dumps({"shapes": {"another": {"sides": {}}}}))
    subprocess.run(
        [sys.executable, "-m", "benchmarks.perplexity", "--shape", "toy", "--rounds", "1", "--into", tmp_path], cwd=ROOT, check=True
    )
    found = json.loads((tmp_path / "perplexity.json").read_text())
    assert set(found["shapes"]) == {"another", "toy"}
    assert all(side["peak_bytes"] > 0 for side in found["shapes"]["toy"]["sides"].values())


def test_two_recipes_by_hand(tmp_path, monkeypatch):
    """At 75% the gap is 4 - 2 nats on validation; ours ends 0.1 and 0.3 below the paper's on test. At 2bit it ends 0.2 above."""

    def run(recipe, level, seed, tokens, test, *nll):
        curve = [{"tokens": tokens * step // (len(nll) - 1), "validation_nll": value} for step, value in enumerate(nll)]
        return {"recipe": recipe, "level": level, "seed": seed, "tokens": tokens, "curve": curve, "validation_none": 4.0,
                "test": test, "test_none": 4.5}  # fmt: skip

    record = {
        "full": {"validation": 2.0, "test": 2.5},
        "share": 0.1,
        "runs": [
            run("paper", "75%", 0, 1000, 3.5, 4.2, 3.6, 3.8), run("paper", "75%", 1, 1000, 3.6, 4.2, 3.6, 3.0),
            run("distilled", "75%", 0, 100, 3.4, 4.1, 3.0), run("distilled", "75%", 1, 100, 3.3, 4.1, 3.0),
            run("paper", "2bit", 0, 1000, 3.5, 4.2, 3.6), run("distilled", "2bit", 0, 100, 3.7, 4.1, 3.0),
            run("paper", "2bit", 1, 1000, 3.5, 4.2, 3.6),  # ours has no such seed yet
        ],
    }  # fmt: skip
    curves = recipe_page.curves(record).set_index(["recipe", "level", "seed", "tokens"]).recovered.sort_index()
    assert curves["paper", "75%", 0].tolist() == pytest.approx([-0.1, 0.2, 0.2]), "the best so far"
    ends = recipe_page.ends(record)
    assert ends.lead.to_dict() == pytest.approx({"75%": -0.2, "2bit": 0.2}) and ends.seeds.to_dict() == {"75%": 2, "2bit": 1}
    assert ends.least["75%"] == pytest.approx(-0.3) and ends.most["75%"] == pytest.approx(-0.1)
    told = {line.split("|")[1].strip(): line for line in recipe_page.as_markdown(record).splitlines()}
    assert "missed" in told["2bit"] and "missed" not in told["75%"] and told["75%"].endswith("| 10% |")
    assert len(recipe_page.draw(record).axes) == 2
    monkeypatch.setattr(page, "FIGURES", tmp_path)
    told = "\n".join(page._recipes({"4000": record, "800": record}))
    assert told.index("over 800 steps") < told.index("over 4,000 steps")
    assert {path.name for path in tmp_path.iterdir()} >= {"recipes_800.png", "recipes_4000.png"}


def test_time_to_quality_by_hand():
    """PEFT's best, 4.0, comes after 1,800 s; ours passes it between 60 and 90 s with one seed, and never with another."""

    def run(*points):
        return {"rate": 0.01, "steps": 9, "curve": [{"seconds": at, "validation_nll": nll} for at, nll in points]}

    runs = {
        "PEFT, rate 0.01": run((0, 5.0), (450, 4.4)),
        "PEFT, seed 0": run((0, 5.0), (900, 4.1), (1800, 4.0)), "ours, 10% of the time, seed 0": run((0, 5.0), (60, 4.05), (90, 3.9)),
        "PEFT, seed 1": run((0, 5.0), (900, 4.0), (1800, 4.2)), "ours, 10% of the time, seed 1": run((0, 5.0), (60, 4.4)),
        "ours, 100% of the time, seed 1": run((0, 5.0), (60, 4.3)),
        "PEFT, seed 2": run((0, 5.0)),
    }  # fmt: skip
    shapes = {"own, 75%": {"minutes": 30, "runs": runs}}
    told = "\n".join(recipe_page.timed(shapes))
    assert (
        "| 0 | 0.01 | 30 | 4.0000 | 1800 | 90 | 20.0 |" in told
        and "| 1 | 0.01 | 30 | 4.0000 | 900 |  | never as good, **missed** |" in told
    )
    (axis,) = recipe_page.draw_times(shapes).axes
    assert len(axis.lines) == 6 and {text.get_text() for text in axis.get_legend().get_texts()} == {
        "PEFT, the paper's recipe",
        "ours",
    }


def test_both_sides_of_time_to_quality_learn_what_the_study_learns(tmp_path):
    """PEFT's curve by one recipe is that of the study's own training, and so is ours; the base stays as it was."""
    settings = small_study.make(tmp_path)
    bench = Bench(settings, "own", Level.parse("50%"))
    before = loading.fingerprint(bench.network)
    for loss, sides in (("next-token", (time_to_quality.peft, time_to_quality.ours)), ("distillation", (time_to_quality.ours,))):
        spec = replace(settings.soft_prompt, loss=loss, initialisation="first")
        text = selection.training_text(settings, bench.tokenizer, spec.corpus, spec.training, 0)
        teacher = bench.teacher if loss == "distillation" else None
        run = PROMPT.learn(bench.network, text, spec, teacher, 0, checkpoint=tmp_path / loss, label="").run
        wanted = [row["validation_nll"] for row in run.curve]
        for side in sides:
            curve = time_to_quality.learned(side(bench), spec, 0, "")
            assert [row["validation_nll"] for row in curve] == pytest.approx(wanted, abs=1e-4)
    assert loading.fingerprint(bench.network) == before
    few = time_to_quality.within(time_to_quality.peft(bench), spec, 0.0)
    assert few.training.steps == time_to_quality.VALIDATIONS and few.training.warmup_steps <= few.training.steps // 10


def test_the_recipes_see_what_they_are_said_to_see():
    asked = recipe.recipes(study.load())
    tokens = {name: one.training.steps * one.training.batch_windows for name, one in asked.items()}
    assert tokens["distilled"] / tokens["paper"] == pytest.approx(recipe.SHARE)
    assert (asked["paper"].initialisation, asked["paper"].loss, asked["paper"].training.warmup_steps) == (
        "first",
        "next-token",
        500,
    )


def test_the_page_marks_what_misses_its_goal():
    """Peers beside which ours is 2, 1.2 and 1.6 (at times 1.4) times as fast where 1.5 is asked; 0.4 of the memory where 0.5 is."""

    def side(median, goal=None, low=None):
        ratio = {"median": median, "low": low or median, "high": median}
        return {
            "ratio": ratio,
            "goal": goal,
            "memory_ratio": 0.4,
            "memory_goal": 0.5,
            "tokens_per_second": 10.0,
            "share_of_ceiling": 0.3,
        }

    measured = {
        "sides": {
            "ours": side(1.0),
            "slow": side(2.0, 1.5),
            "quick": side(1.2, 1.5),
            "free": side(0.5),
            "near": side(1.6, 1.5, 1.4),
        },
        "ceiling_goal": 0.5,
        "ceiling": 2e11,
        "provenance": {"device": "cpu", "processor": "a processor", "threads": 2},
    }
    table = pd.DataFrame(page.rows({"one": {"cell": {"title": "Work"}, "shapes": {"toy": measured}}}))
    told = {
        row.split("|")[3].strip(): [cell.strip() for cell in row.split("|")[5:12]] for row in page.as_markdown(table).splitlines()
    }
    assert told["slow"] == ["1.5", "0.40", "0.5", "10", "200", "0.30", "0.5, **missed**"]
    assert told["quick"][0] == "1.5, **missed**" and told["free"][0] == "" and told["near"][0] == "1.5, in the median"
