"""Cells, tables, verdicts and figures."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from ctp_lib import claims, figures, results, verdicts
from ctp_lib.verdicts import Difference


def test_a_cell_comes_back_with_its_provenance(tmp_path):
    path = tmp_path / "a" / "b.json"
    results.write_cell(path, {"model": "m"}, perplexity=[{"ppl": 2.0}])
    cell = results.read_cell(path)
    assert cell["cell"] == {"model": "m"} and cell["perplexity"] == [{"ppl": 2.0}]
    assert cell["provenance"]["threads"] >= 1 and set(cell["provenance"]["packages"]) == set(results.RECORDED_PACKAGES)


def test_missing_and_torn_cells_are_said_so(tmp_path):
    with pytest.raises(ValueError, match="run `dvc repro`"):
        results.read_cell(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        results.read_cell(tmp_path / "a.json")


def test_a_table_joins_cells_and_rows():
    cells = [
        {"cell": {"model": "m", "level": level}, "perplexity": [{"ppl": ppl}, {"ppl": ppl + 1}]}
        for level, ppl in (("a", 1), ("b", 3))
    ]
    table = results.table(cells, "perplexity", ["model", "level", "ppl", "seed"])
    assert table.ppl.tolist() == [1, 2, 3, 4] and table.level.tolist() == ["a", "a", "b", "b"]
    assert list(table.columns) == ["model", "level", "ppl", "seed"] and table.seed.isna().all()


def test_cost_is_measured_and_gives_a_rate():
    with results.measured("work", tokens=100) as cost:
        held = bytearray(50_000_000)
    assert cost.seconds > 0 and cost.peak_memory_bytes > len(held)
    assert cost.record()["tokens_per_second"] == pytest.approx(100 / cost.seconds)


def test_paired_differences_by_hand():
    # differences -1, -2, -3: mean -2, standard deviation 1
    difference = verdicts.paired_difference([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert difference == Difference(-2.0, pytest.approx(1 / math.sqrt(3)))
    with pytest.raises(ValueError, match="cannot be paired"):
        verdicts.paired_difference([1.0], [1.0])


LOWER, HIGHER, NEITHER = Difference(-3.0, 1.0), Difference(3.0, 1.0), Difference(-1.0, 1.0)


def test_a_difference_counts_only_beyond_its_error():
    assert (LOWER.lower, HIGHER.lower, NEITHER.lower) == (True, False, False)


@pytest.mark.parametrize(
    ("differences", "outcome"),
    [([LOWER, LOWER], "holds"), ([LOWER, NEITHER], "mixed"), ([LOWER, HIGHER], "mixed"), ([NEITHER, HIGHER], "does not hold")],
)
def test_everywhere_lower(differences, outcome):
    assert verdicts.everywhere_lower(differences) == outcome


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [([True, True], "holds"), ([False, True], "mixed"), ([False, False], "does not hold"), ([], "not measured")],
)
def test_counted(answers, outcome):
    assert verdicts.counted(answers) == outcome


def test_units_are_averaged_over_runs_that_measured_the_same_ones():
    assert verdicts.unit_means([[1.0, 4.0], [3.0, 0.0]]) == [2.0, 2.0]
    with pytest.raises(ValueError, match="shorter"):
        verdicts.unit_means([[1.0, 4.0], [3.0]])


def test_recovered_share_by_hand():
    assert claims.recovered_share(none=20.0, prompted=15.0, full=10.0) == 0.5
    assert claims.recovered_share(none=20.0, prompted=22.0, full=10.0) == -0.2
    assert math.isnan(claims.recovered_share(none=10.0, prompted=9.0, full=10.0))


def row(method: str, *nll: float, text: str = "t") -> dict:
    mean = sum(nll) / len(nll)
    ppl = math.exp(mean)
    return {
        "method": method,
        "evaluated_on": "broad",
        "nll": mean,
        "ppl": ppl,
        "ppl_released": ppl / 2,
        "window_nll": nll,
        "text_digest": text,
    }


def cell(level: str, *rows: dict, **more) -> dict:
    return {"cell": {"level": level}, "perplexity": list(rows), **more}


def test_a_gain_over_seeds_counts_windows_and_seeds():
    # seed means 1.5 and 1.9; windows averaged over seeds 1.6, 1.8 against 2, 2: -0.4 and -0.2
    gain = verdicts.over_seeds([row("p", 1.4, 1.6), row("p", 1.8, 2.0)], [row("none", 2.0, 2.0)])
    windows, seeds = 0.1, 0.4 / math.sqrt(2) / math.sqrt(2)
    assert gain.mean == pytest.approx(-0.3) and gain.stderr == pytest.approx(math.hypot(windows, seeds))
    assert verdicts.over_seeds([row("p", 1.4, 1.6)], [row("none", 2.0, 2.0)]) == Difference(pytest.approx(-0.5), pytest.approx(0.1))
    both = verdicts.over_seeds([row("p", 1.4, 1.6)], [row("q", 1.4, 1.6), row("q", 1.8, 2.0)])
    assert both.mean == pytest.approx(-0.2) and both.stderr == pytest.approx(seeds)  # the windows differ by the same


def test_the_recovery_table():
    manifest = {"manifest": {"bits_per_weight": 4.5}}
    cells = [
        cell("full", row("none", 1.0, 1.0), **manifest), cell("4bit", row("none", 2.0, 2.0), **manifest),
        cell("full", row("soft_prompt", 0.9, 0.9)), cell("4bit", row("soft_prompt", 1.4, 1.6), row("soft_prompt", 1.7, 1.7)),
    ]  # fmt: skip
    table = claims.recovery_table(cells, evaluated_on="broad")
    found, mean = table.loc["4bit"], (math.exp(1.5) + math.exp(1.7)) / 2
    assert found.gain == pytest.approx(-0.4) and found.bits_per_weight == 4.5
    assert (found.seeds_low, found.seeds_high) == pytest.approx((math.exp(1.5), math.exp(1.7)))
    assert found.recovered == pytest.approx((math.e**2 - mean) / (math.e**2 - math.e))
    # the uncompressed model gains 0.1 from its own prompt; of the 0.4 gained here 0.3 are repair, of a cost of 1
    assert found.net_gain == pytest.approx(-0.3) and found.repaired == pytest.approx(0.3) and found.cost == pytest.approx(1.0)
    assert found.above_full == pytest.approx(0.6)
    assert list(table.index) == ["full", "4bit"]


def test_scores_of_different_text_are_not_compared():
    cells = [
        cell("full", row("none", 1.0, 1.0), manifest={"bits_per_weight": 16.0}),
        cell("full", row("soft_prompt", 1.0, 1.0, text="other")),
    ]
    with pytest.raises(ValueError, match="other text was scored"):
        claims.recovery_table(cells, evaluated_on="broad")


def perplexities() -> pd.DataFrame:
    rows = [
        {"level": level, "method": method, "evaluated_on": "broad", "ppl": ppl}
        for level, none, prompted in (
            ("full", 10, 9.9),
            ("4bit", 11, 10.5),
            ("2bit", 90, 30),
            ("50%", 12, 11),
            ("50%+4bit", 13, 12),
        )
        for method, ppl in (("none", none), ("soft_prompt", prompted))
    ]
    return pd.DataFrame(rows)


def test_equal_tables_give_equal_figures_and_say_the_uncompressed_value(tmp_path):
    for name in ("one", "two"):
        figures.save(figures.perplexity_by_level(perplexities(), evaluated_on="broad"), tmp_path / name, "f")
    for suffix in ("svg", "png"):
        assert (tmp_path / "one" / f"f.{suffix}").read_bytes() == (tmp_path / "two" / f"f.{suffix}").read_bytes()
    figure = figures.perplexity_by_level(perplexities(), evaluated_on="broad")
    for axis, levels in zip(figure.axes, (["4bit", "2bit"], ["50%", "50%+4bit"]), strict=False):
        assert [label.get_text() for label in axis.get_xticklabels()] == levels
        assert "10.0" in [text.get_text() for text in axis.texts]


def test_curves_have_a_panel_a_level():
    curve = pd.DataFrame(
        {
            "level": ["4bit"] * 3 + ["50%"] * 3,
            "seed": 0,
            "tokens": [0, 10, 20] * 2,
            "validation_nll": [3.0, 2.0, 2.5, 4.0, 3.5, 3.0],
        }
    )
    figure = figures.curves_by_level(curve)
    assert [axis.get_title() for axis in figure.axes if axis.axison] == ["4bit", "50%"]
    kept = [axis.lines[1].get_xydata().tolist() for axis in figure.axes if axis.axison]
    assert kept == [[[0.01, 2.0]], [[0.02, 3.0]]]
