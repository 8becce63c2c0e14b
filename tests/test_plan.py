"""The plan of a study against a count by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import small_study

from ctp_lib.machine import plan
from ctp_lib.model import loading


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return small_study.make(tmp_path_factory.mktemp("plan"))


def test_a_training_is_counted_by_hand(settings):
    """4 steps of 2 windows of 24 tokens behind 5 vectors; validation at steps 0, 2 and 4 on 4 windows; the teacher reads what is trained on."""
    assert plan._training(settings) == plan.Work(train=4 * 2 * 29, read=3 * 4 * 29 + 4 * 2 * 24)


def test_cells_are_counted_by_hand(settings):
    """Three levels, one learned method with two seeds; two corpora and the teacher's reading of one of them, 4 windows each."""
    works = {stage: (cells, work) for stage, cells, work in plan.works(settings) if cells}
    scored = 3 * 4 * 29
    assert works["compress"] == (3, plan.Work(compress=3 * 4 * 24))
    assert works["learn"] == (3, 2 * plan._training(settings)) and works["score"] == (6, plan.Work(read=2 * scored))
    assert works["cross_compression"] == (1, plan.Work(read=3 * 2 * 2 * 4 * 29))
    repairs = [cells for stage, cells, _ in plan.works(settings) if stage == "repair"]
    assert repairs == [3, 3, 2], "soft_prompt and lora at every level, sink where it is compressed"


def test_controls_are_cells_of_learn_in_which_no_model_works(settings):
    more = replace(settings, methods={"soft_prompt": {}, "sink": {}, "random_prefix": {}})
    found = [(cells, work) for stage, cells, work in plan.works(more) if stage == "learn"]
    assert found == [(3, 2 * plan._training(settings)), (6, plan.Work())]
    assert plan.table(more, 1e9).cells["learn"] == len(settings.levels) * len(more.methods), "as many as the graph has"


def test_the_hours_are_those_of_all_repairs_and_the_minutes_those_of_the_longest(settings):
    """Three trainings of prompts (two rates, the other size) and two of LoRA; two sizes of each are scored, one of a sink; a task of 8 items."""
    training, scored, asked = plan._training(settings), plan.Work(read=3 * 4 * 29), plan.Work(read=8 * 4 * plan.CHOICE)
    prompts, loras, sink = 3 * training + 2 * scored + asked, 2 * training + 2 * scored + asked, scored + asked
    weights = plan.matrix_weights(loading.load_model(settings.model("own")))
    seconds = [work.seconds(weights, 1e9) for work in (prompts, loras, sink)]
    repair = plan.table(settings, 1e9).loc["repair"]
    assert repair["longest, minutes"] == pytest.approx(max(seconds) / 60) and repair.cells == 8
    assert repair.hours == pytest.approx((3 * seconds[0] + 3 * seconds[1] + 2 * seconds[2]) / 3600)


def test_seconds_are_operations_over_the_rate_that_each_kind_of_work_reaches():
    work = plan.Work(train=100, read=10, compress=1)
    operations = 1000 * (4 * 100 / plan.REACHED["train"] + 2 * 10 / plan.REACHED["read"] + 2 * 1 / plan.REACHED["compress"])
    assert work.seconds(1000, 50.0) == pytest.approx(plan.START + operations / 50)


def test_more_workers_take_less_but_no_less_than_the_longest_chain(settings):
    table = plan.table(settings, 1e9)
    assert plan.hours(table, 1) == pytest.approx(table.hours.sum())
    assert plan.hours(table, 2) == pytest.approx(max(table.hours.sum() / 2, table["longest, minutes"].sum() / 60))
    assert plan.hours(table, 10**6) == pytest.approx(table["longest, minutes"].sum() / 60)


def test_weights_are_those_of_matrices_and_of_the_head(settings):
    network = loading.load_model(settings.model("own"))
    counted = sum(weight.numel() for name, weight in network.named_parameters() if weight.dim() == 2 and "embed" not in name)
    assert plan.matrix_weights(network) == counted


def test_the_page_says_cells_hours_memory_and_workers(settings):
    page = plan.report(settings, 1e9, workers=(1, 2))
    assert "own, at 1 GFLOP/s" in page and "GB of memory a cell" in page and "with 1 workers" in page and "2 workers" in page
