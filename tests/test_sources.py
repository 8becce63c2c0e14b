"""Texts from the hub, by the layout of the real repositories, and from the reader's own files."""

from __future__ import annotations

import gzip
import json
import lzma

import pandas as pd
import pytest
import repositories
from conftest import HUB, ROOT

from ctp_lib.settings import study
from ctp_lib.settings.corpora import CorpusSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.text import sources


@pytest.fixture(scope="module", autouse=True)
def data_sets():
    repositories.build(HUB.root)


def read(spec: CorpusSpec, root=ROOT, name: str = "mine") -> dict[str, list[str]]:
    return sources.read(name, spec, root=root, seed=0, held_out=0.2)


def of_params(name: str) -> CorpusSpec:
    """The corpus as ``params.yaml`` has it."""
    path = ROOT / "params.yaml"
    raw = study.YAML(typ="safe", pure=True).load(path.read_text())["corpora"]["sources"][name]
    return study.with_settings(CorpusSpec, raw, f"{name}.")


def test_c4_has_a_train_shard_and_its_validation_shard_in_halves():
    found = read(of_params("c4"))
    assert found["train"] == [repositories.text(n) for n in range(60)]
    held = found["validation"] + found["test"]
    assert sorted(held) == sorted(repositories.text(1000 + n) for n in range(60)) and min(map(len, found.values())) > 15


@pytest.mark.parametrize(("name", "joined"), [("wikitext2", "\n\n"), ("ptb", " ")])
def test_a_split_is_one_text_as_the_literature_reads_it(name, joined):
    found = read(of_params(name))
    assert all(len(texts) == 1 for texts in found.values())
    parts = found["test"][0].split(joined) if name == "wikitext2" else None
    assert repositories.text(0) in found["test"][0] and "another config" not in found["test"][0]
    assert parts is None or len(parts) == 32


def test_rows_are_counted_from_the_first():
    spec = CorpusSpec(dataset="Salesforce/wikitext", config="wikitext-2-raw-v1", at_most=7)
    assert len(read(spec)["train"]) == 6  # one of the seven is empty


ROWS = [repositories.text(n) for n in range(50)]


def write(folder, kind: str) -> str:
    lines = "".join(json.dumps({"text": row}) + "\n" for row in ROWS)
    if kind == "txt":
        for number, row in enumerate(ROWS):
            (folder / f"{number:02}.txt").write_text(row)
        return "*.txt"
    if kind == "parquet":
        pd.DataFrame({"text": ROWS}).to_parquet(folder / "rows.parquet")
        return "rows.parquet"
    pack = {"jsonl": str.encode, "jsonl.gz": lambda t: gzip.compress(t.encode()), "jsonl.xz": lambda t: lzma.compress(t.encode())}
    (folder / f"rows.{kind}").write_bytes(pack[kind](lines))
    return f"rows.{kind}"


@pytest.mark.parametrize("kind", ["txt", "jsonl", "jsonl.gz", "jsonl.xz", "parquet"])
def test_own_files_of_every_kind_are_dealt_alike(tmp_path, kind):
    found = read(CorpusSpec(files={"train": write(tmp_path, kind)}), tmp_path)
    assert sorted(found["train"] + found["validation"] + found["test"]) == sorted(ROWS)
    assert found["train"] == [row for row in ROWS if row in set(found["train"])]
    (tmp_path / "more").mkdir()
    again = read(CorpusSpec(files={"train": f"more/{write(tmp_path / 'more', 'jsonl')}"}), tmp_path)
    assert again == found and min(map(len, found.values())) > 2


def test_own_splits_are_kept(tmp_path):
    for split, rows in (("a", ROWS[:30]), ("b", ROWS[30:40]), ("c", ROWS[40:])):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps({"body": row}) + "\n" for row in rows))
    spec = CorpusSpec(files={"train": "a.jsonl", "validation": "b.jsonl", "test": "c.jsonl"}, column="body")
    assert read(spec, tmp_path) == {"train": ROWS[:30], "validation": ROWS[30:40], "test": ROWS[40:]}


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path):
    (tmp_path / "torn.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 1000)[:-20])
    (tmp_path / "not.jsonl").write_text("no json at all")
    (tmp_path / "one.csv").write_text("text\na\n")
    (tmp_path / "one.jsonl.zst").write_bytes(b"packed")
    (tmp_path / "one.jsonl").write_text('{"text": "a"}\n')
    for spec, sentence in (
        (CorpusSpec(files={"train": "none/*.txt"}), "corpora.sources.mine.files.train: no file is called none/"),
        (CorpusSpec(files={"train": "one.csv"}), "is none of .txt, .md, .jsonl"),
        (
            CorpusSpec(files={"train": "one.jsonl.zst"}),
            "one.jsonl.zst is none of .txt, .md, .jsonl, .json, .parquet, packed or not",
        ),
        (CorpusSpec(files={"train": "torn.jsonl.gz"}), "torn.jsonl.gz cannot be read as json"),
        (CorpusSpec(files={"train": "not.jsonl"}), "not.jsonl cannot be read as json"),
        (CorpusSpec(files={"train": "one.jsonl"}, column="body"), "column is 'body'; allowed is one of text"),
        (CorpusSpec(dataset="nobody/nothing"), "nobody/nothing"),
        (CorpusSpec(dataset="Salesforce/wikitext", config="wikitext-3"), "wikitext-3"),
        (CorpusSpec(dataset="allenai/c4", files={"train": "en/none.json.gz"}), "allenai/c4"),
    ):
        with pytest.raises(ParameterError) as caught:
            read(spec, tmp_path)
        assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_data_set_with_other_splits_is_dealt_or_refused_by_their_names():
    rows = {"train": [{"text": row} for row in ROWS], "dev": [{"text": "of another split"}]}
    repositories._parquet(HUB.root / "datasets" / "other" / "splits", {"default": rows})
    found = read(CorpusSpec(dataset="other/splits"))
    assert sorted(text for texts in found.values() for text in texts) == sorted(ROWS) and min(map(len, found.values())) > 2
    with pytest.raises(ParameterError, match=r"sources\.mine: splits is \['dev', 'test', 'validation'\]; allowed is train, and"):
        read(CorpusSpec(dataset="cais/mmlu", config="high_school_european_history", column="question"))


CARD = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: rows.jsonl\n---\n"


@pytest.mark.parametrize(
    ("name", "files", "sentence"),
    [
        ("script", {"script.py": "raise SystemExit"}, "but found script.py; try its revision refs/convert/parquet"),
        ("damaged", {"README.md": CARD, "rows.jsonl": '{"text": "a"}\n{"text": '}, "other/damaged cannot be read: "),
    ],
)
def test_a_data_set_that_a_script_makes_or_that_is_damaged_is_said_so(name, files, sentence):
    folder = HUB.root / "datasets" / "other" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text)
    with pytest.raises(ParameterError) as caught:
        read(CorpusSpec(dataset=f"other/{name}"))
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_brackets_in_a_path_and_in_a_name_are_letters(tmp_path):
    names = ["notes 1.txt", *(f"notes [{number}].txt" for number in range(8))]
    (tmp_path / "a [work]" / "text").mkdir(parents=True)
    for name, row in zip(names, ROWS, strict=False):
        (tmp_path / "a [work]" / "text" / name).write_text(row)
    found = read(CorpusSpec(files={"train": "text/*.txt"}), tmp_path / "a [work]")
    assert sorted(text for texts in found.values() for text in texts) == sorted(ROWS[: len(names)])


def test_a_corpus_has_one_source():
    with pytest.raises(ValueError, match="allowed is packages, or dataset"):
        CorpusSpec(packages=("python",), dataset="a/b")
    with pytest.raises(ValueError, match="allowed is a path for train"):
        CorpusSpec(files={"test": "a.txt"})


def test_one_text_file_is_its_paragraphs_and_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "all.txt").write_text("\ufeff" + "\n\n".join(ROWS), encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text("\ufeff" + "".join(json.dumps({"text": row}) + "\n" for row in ROWS), encoding="utf-8")
    one, other = (read(CorpusSpec(files={"train": name}), tmp_path) for name in ("all.txt", "rows.jsonl"))
    assert {split: [text.strip() for text in texts] for split, texts in one.items()} == other
    assert sorted(text for texts in other.values() for text in texts) == sorted(ROWS) and min(map(len, other.values())) > 2


@pytest.mark.parametrize(("row", "said"), [(None, "row 2 of column 'text' is None"), (7, "row 2 of column 'text' is 7")])
def test_a_row_that_is_no_text_is_named(tmp_path, row, said):
    rows = ["a", "b", row] if row is None else [1, 2, 7]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    with pytest.raises(ParameterError, match=said if row is None else "row 0 of column 'text' is 1"):
        read(CorpusSpec(files={"train": "rows.jsonl"}), tmp_path)
