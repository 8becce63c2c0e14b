"""Documents: read as they stand, seen once, in one split; windows that lose and repeat nothing."""

from __future__ import annotations

import importlib
import inspect

import families
import pytest
import torch
from conftest import ROOT

from ctp_lib.settings.corpora import CorporaSpec, CorpusSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.text import corpora, docstrings, documents, windows
from ctp_lib.text.documents import Document


def test_docstrings_are_those_that_python_itself_reports():
    read = dict(docstrings.read_package("seaborn"))
    module = importlib.import_module("seaborn.utils")
    for name in ("move_legend", "despine", "ci"):
        assert read[f"seaborn.utils.{name}"] == inspect.getdoc(getattr(module, name))


def test_methods_and_attached_docstrings_are_read(tmp_path):
    attached = 'add_docstr(torch.abs, r"""Doc\n    of abs.""")\nadd_newdoc("numpy", "c", ("d", """Doc of d."""))\n'
    source = 'class A:\n    def b(self):\n        """Doc of b."""\n' + attached
    path = tmp_path / "m.py"
    path.write_text(source)
    assert dict(docstrings._documented_objects(path, "m")) == {
        "m.A.b": "Doc of b.",
        "torch.abs": "Doc\nof abs.",
        "numpy.c.d": "Doc of d.",
    }


def test_nothing_is_imported_and_broken_source_is_passed_over(tmp_path):
    path = tmp_path / "m.py"
    path.write_text('"""Doc."""\nraise SystemExit\n')
    assert list(docstrings._documented_objects(path, "m")) == [("m", "Doc.")]
    path.write_text('"""Doc."""\ndef (:\n')
    assert list(docstrings._documented_objects(path, "m")) == []


def test_the_language_reference_is_there():
    names = [name for name, _ in docstrings.read_package(docstrings.STANDARD_LIBRARY)]
    assert "Python language reference: lambda" in names
    assert "json.decoder.JSONDecoder" in names


def test_a_missing_package_stops_at_once():
    spec = CorporaSpec({"a": CorpusSpec(("no-such-package",))}, 1, 10, 0.1)
    with pytest.raises(ParameterError, match="package 'no-such-package' is not installed"):
        list(corpora.read(spec))


LINES = [f"this is line number {number} of a text" for number in range(8)]


def deduplicated(*groups: list[str]) -> list[list[str]]:
    given = [(f"c{i}", [Document(f"n{i}.{j}", text) for j, text in enumerate(texts)]) for i, texts in enumerate(groups)]
    return [[document.text for document in kept] for _, kept in corpora.deduplicate(given)]


def test_copies_and_near_copies_are_dropped_across_corpora():
    whole = "\n".join(LINES[:4])
    near = "\n".join([*LINES[:3], "and one line that is quite new"])  # three quarters seen
    half = "\n".join([*LINES[:2], *LINES[6:8]])
    assert deduplicated([whole, whole.upper()], [near, half]) == [[whole], [half]]


def test_no_document_is_in_two_splits_and_names_stay_together():
    made = [Document(f"n{number % 500}", f"text {number}") for number in range(1000)]
    parts = corpora.split(made, seed=0, held_out=0.1)
    names = {part: {document.name for document in parts[part]} for part in documents.SPLITS}
    assert sum(map(len, parts.values())) == 1000
    assert (
        not names["train"] & names["test"] and not names["train"] & names["validation"] and not names["test"] & names["validation"]
    )
    assert 25 < len(names["test"]) < 80 and 25 < len(names["validation"]) < 80


def test_a_new_document_moves_no_other_and_the_order_of_reading_does_not_matter():
    made = [Document(f"n{number}", "text") for number in range(300)]
    before = corpora.split(made, seed=0, held_out=0.1)["test"]
    after = corpora.split([*made[::-1], Document("new", "text")], seed=0, held_out=0.1)["test"]
    assert [document for document in after if document.name != "new"] == before
    numbers = [int(document.name[1:]) for document in before]
    assert numbers != sorted(numbers), "the first documents of a split are to be a sample of all"
    assert corpora.split(made, seed=1, held_out=0.1)["test"] != before


def test_building_twice_gives_the_same_bytes(tmp_path):
    spec = CorporaSpec({"plots": CorpusSpec(("seaborn",)), "tables": CorpusSpec(("tabulate", "narwhals"))}, 50, 2000, 0.2)
    for name in ("one", "two"):
        corpora.build(spec, tmp_path / name, root=ROOT)
    for path in sorted((tmp_path / "one").rglob("*.gz")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
    texts = list(documents.documents(tmp_path / "one", "plots", "train"))
    assert all(50 <= len(document.text) <= 2000 for document in texts)


def test_missing_and_damaged_files_are_said_so(tmp_path):
    with pytest.raises(ValueError, match="make it with `dvc repro corpora`"):
        list(documents.documents(tmp_path, "plots", "train"))
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "train.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(ValueError, match="is damaged"):
        list(documents.documents(tmp_path, "plots", "train"))


def test_tokens_of_documents_give_the_text_back(tokenizer):
    texts = [Document("a.b", "Return the sum."), Document("c", "Zwölf, 十二 … \n  indented")]
    row = windows.tokens(texts, tokenizer)
    assert row.dtype == torch.int32
    assert tokenizer.decode(row) == "a.b\n\nReturn the sum.<|endoftext|>c\n\nZwölf, 十二 … \n  indented<|endoftext|>"


def test_windows_are_cut_end_to_end():
    row = torch.arange(23, dtype=torch.int32)
    assert windows.windows(row, 5).tolist() == [[5 * i + j for j in range(5)] for i in range(4)]
    assert windows.windows(row, 5, at_most=2).shape == (2, 5)
    with pytest.raises(ValueError, match="23 tokens, fewer than one window of 24"):
        windows.windows(row, 24)
    with pytest.raises(ValueError, match="fewer than one window"):
        windows.random_windows(row, 24, 1, seed=0)


def words(*lengths: int) -> list[Document]:
    """Documents of so many tokens, the end of the text among them; each begins with a letter of its own."""
    return [Document("", "ABCDEFGH"[number] + " a" * (length - 2)) for number, length in enumerate(lengths)]


def test_windows_of_a_test_share_no_document(tokenizer):
    found, clusters = windows.of_documents(words(7, 2, 2, 9), tokenizer, 5, at_most=3)
    first = [tokenizer.decode(row).replace(tokenizer.eos_token, "|") for row in found]
    assert clusters == (0, 1, 1) and first[0] == "A a a a a"
    assert first[1] == "B|C|D", "short documents fill a window together, and it ends inside the last"


def test_windows_begin_as_the_tokenizer_begins_a_text(tokenizer):
    """Gemma reads no text without its first token (lm-evaluation-harness#2049); without it, anything before a text would seem to help."""
    found, begins = torch.arange(10).view(2, 5), families.tokenizer("gemma2")
    assert windows.beginning(tokenizer) == [] and torch.equal(windows.begun(found, tokenizer), found)
    assert windows.beginning(begins) == [begins.eos_token_id]
    assert windows.begun(found + 5, begins).tolist() == [[0, 6, 7, 8, 9], [0, 11, 12, 13, 14]]


def test_long_documents_give_more_windows_where_there_are_too_few(tokenizer):
    found, clusters = windows.of_documents(words(11, 16), tokenizer, 5, at_most=4)
    assert clusters == (0, 1, 0, 1) and tokenizer.decode(found[0]).startswith("A") and tokenizer.decode(found[1]).startswith("B")
    assert windows.of_documents(words(11, 16), tokenizer, 5, at_most=100)[1] == (0, 1, 0, 1, 1)
    one, clusters = windows.of_documents(words(30), tokenizer, 5, at_most=100)
    assert clusters == (0, 0, 0, 0, 1, 1) and len(one) == 6, "one text is cut into windows, and neighbours count as one draw"
    with pytest.raises(ParameterError, match="the text has 4 tokens, fewer than one window of 5"):
        windows.of_documents(words(4), tokenizer, 5, at_most=1)


def test_random_windows_are_stretches_of_the_text_and_depend_on_the_seed():
    row = torch.arange(1000, dtype=torch.int32)
    drawn = windows.random_windows(row, 10, 20, seed=0)
    assert (drawn.diff(dim=1) == 1).all() and drawn.dtype == torch.int64
    assert torch.equal(drawn, windows.random_windows(row, 10, 20, seed=0))
    assert not torch.equal(drawn, windows.random_windows(row, 10, 20, seed=1))


def test_an_epoch_of_batches_sees_each_window_once():
    row = torch.arange(105, dtype=torch.int32)
    batch = windows.shuffled_batches(row, length=5, batch_windows=4, seed=0)
    epoch = torch.cat([batch(step) for step in range(5)])
    assert (epoch.diff(dim=1) == 1).all()
    starts = sorted((epoch[:, 0] - epoch[:, 0].min()).tolist())
    assert starts == [5 * i for i in range(20)]
    assert not torch.equal(batch(0), batch(5))
    with pytest.raises(ValueError, match="too few for a batch"):
        windows.shuffled_batches(row, length=50, batch_windows=4, seed=0)
