"""A model that says what it has read is not tested on it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import small_study
from conftest import ROOT

from ctp_lib.recovery.bench import Bench
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError
from ctp_lib.text import corpora, documents
from ctp_lib.text.documents import Document


def trained_on(settings) -> list[Document]:
    return [
        document
        for corpus in settings.corpora.sources
        for document in documents.documents(paths.corpora(settings), corpus, "train")
    ]


def test_another_deal_puts_training_text_into_the_test_and_is_refused(tmp_path):
    settings = small_study.make(tmp_path)
    documents.write_marks(trained_on(settings), tmp_path / "own")
    Bench(settings, "own", Level()).scored  # noqa: B018 (the same deal)
    again = replace(settings, seed=1)
    corpora.build(again.corpora, paths.corpora(again), root=again.root)
    Bench(again, "own", Level()).scored  # noqa: B018 (the seed of calibration and training deals nothing)
    for changes in ({"split_seed": 1}, {"held_out": 0.3}):
        other = replace(settings, corpora=replace(settings.corpora, **changes))
        corpora.build(other.corpora, paths.corpora(other), root=other.root)
        with pytest.raises(
            ParameterError, match=r"^\d+ of \d+ test documents of broad were training text of model 'own'; set corpora.split_seed"
        ):
            Bench(other, "own", Level()).scored  # noqa: B018
        Bench(other, "other", Level()).scored  # noqa: B018 (this one does not say what it has read)


def test_the_marks_are_those_of_the_documents_in_any_order(tmp_path):
    read = [Document("a.b", "x"), Document("", "text of its own"), Document("a.b", "an overload")]
    documents.write_marks(read, tmp_path)
    documents.write_marks(read[::-1], tmp_path / "..")
    assert (tmp_path / documents.MARKS).read_bytes() == (tmp_path / ".." / documents.MARKS).read_bytes()
    assert (tmp_path / documents.MARKS).stat().st_size == 2 * documents.MARK_BYTES


@pytest.mark.parametrize("name", ["reference", "second"])
def test_the_shipped_models_say_what_they_have_read(name):
    marks = (study.load(ROOT / "params.yaml").root / "models" / name / documents.MARKS).stat().st_size
    assert marks > 30_000 * documents.MARK_BYTES and marks % documents.MARK_BYTES == 0
