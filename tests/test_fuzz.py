"""Whatever is written into a file: it is read rightly, or refused in one sentence; never a traceback."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctp_lib.run import graph
from ctp_lib.settings import study
from ctp_lib.settings.corpora import CorpusSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError
from ctp_lib.text import sources

RAW = yaml.safe_load((ROOT / "params.yaml").read_text())
pytestmark = pytest.mark.medium
SCALARS = st.none() | st.booleans() | st.integers(-5, 10**6) | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
SAME_FILE = [HealthCheck.function_scoped_fixture]


def one_sentence(error: ParameterError) -> bool:
    said = str(error)
    return bool(said.strip()) and "\n" not in said.strip()


@given(st.text(max_size=12) | st.from_regex(r"(?:[a-z]{2,5}:)?[0-9.:%+bit/g]{1,12}", fullmatch=True))
@settings(max_examples=500, deadline=None)
def test_a_level_is_read_as_it_is_written_or_refused(text):
    try:
        assert str(Level.parse(text)) == text and Level.parse(text).slug
    except ParameterError as error:
        assert one_sentence(error)


def places(node, path=()) -> list[tuple]:
    """Where values stand in ``params.yaml``, from the sections down."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for name, value in inner for place in places(value, (*path, name)))] if path else [
        place for name, value in inner for place in places(value, (name,))
    ]  # fmt: skip


HERE = [place for place in places(RAW) if place[0] != "profiles" or place[1:2] in [(), ("embedded",)]]


@given(st.sampled_from(HERE), ANYTHING)
@settings(max_examples=150, deadline=None, suppress_health_check=SAME_FILE)
def test_any_value_anywhere_in_params_is_taken_or_refused(tmp_path, place, value):
    raw = copy.deepcopy(RAW)
    section = raw
    for name in place[:-1]:
        section = section[name]
    section[place[-1]] = value
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8")
    try:
        graph.graph(study.load(tmp_path / "params.yaml"))
    except ParameterError as error:
        assert one_sentence(error)


@given(st.lists(st.dictionaries(st.sampled_from(["text", "other", "name"]), ANYTHING, max_size=3), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=SAME_FILE)
def test_rows_are_texts_or_refused(tmp_path, rows):
    Path(tmp_path, "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    try:
        found = sources.read("mine", CorpusSpec(files={"train": "rows.jsonl"}), root=tmp_path, seed=0, held_out=0.2)
        written = [row["text"].removeprefix("\ufeff") for row in rows if row["text"].strip()]
        assert sorted(text for part in found.values() for text in part) == sorted(written)
    except ParameterError as error:
        assert one_sentence(error)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 10**400])
def test_numbers_that_are_none_are_refused(tmp_path, value):
    raw = copy.deepcopy(RAW)
    raw["margins"]["nats"] = value
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    with pytest.raises(ParameterError, match="margins.nats"):
        study.load(tmp_path / "params.yaml")
