"""Texts from a hub data set or from the reader's own files, through ``datasets``: no loading scripts, nothing unpickled.

What has no split of its own is dealt: a corpus of one split into train, validation and test, a held-out split without its twin in half.
"""

from __future__ import annotations

import glob
import hashlib
import zlib
from collections.abc import Callable, Iterable, Mapping
from lzma import LZMAError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctp_lib.settings.corpora import CorpusSpec
from ctp_lib.settings.spec import ParameterError, first_line, require

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS = {".txt": "text", ".md": "text", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}
"""How a file is read, by the end of its name; each may also be packed as .gz, .xz or .bz2."""
PACKED = {".gz", ".xz", ".bz2"}
DAMAGED = (OSError, EOFError, ValueError, LZMAError, zlib.error)
"""What is raised for files that cannot be read, beside an error of ``datasets``' own."""


def read(name: str, spec: CorpusSpec, *, root: Path, seed: int, held_out: float) -> dict[str, list[str]]:
    """The texts of corpus ``name`` by split; :class:`ParameterError` when files, data set or column are missing, or of another kind."""
    found = _from_files(name, spec, root) if spec.dataset is None else _from_hub(name, spec)
    asked = "train, and validation and test if there are such; say by files which is which"
    require("train" in found, f"corpora.sources.{name}: splits", sorted(map(str, found)), asked)
    dealt = _in_three({split: _texts(name, spec, rows) for split, rows in found.items()}, seed, held_out)
    if spec.joined_by is None:
        return {split: [text for text in texts if text.strip()] for split, texts in dealt.items()}
    return {split: [spec.joined_by.join(texts)] if texts else [] for split, texts in dealt.items()}


def _from_hub(name: str, spec: CorpusSpec) -> Mapping[str, Dataset]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

    try:
        return load_dataset(
            spec.dataset, spec.config, data_files=dict(spec.files) if spec.files else None, revision=spec.revision,
            verification_mode="no_checks",
        )  # fmt: skip
    except DatasetNotFoundError as error:
        wrong = f"{first_line(error)}; check the name, or log in with `hf auth login`"
    except RuntimeError as error:  # a script makes its rows, which is not run
        wrong = f"{spec.dataset} does not load: {first_line(error)}; try its revision refs/convert/parquet, which holds the rows"
    except DatasetGenerationError as error:
        wrong = f"{spec.dataset} cannot be read: {first_line(error.__cause__ or error)}; take other files, or another revision"
    except DAMAGED as error:
        wrong = f"{spec.dataset} does not load: {first_line(error)}; check its name and the connection"
    raise ParameterError(f"corpora.sources.{name}: {wrong}")


def _from_files(name: str, spec: CorpusSpec, root: Path) -> Mapping[str, Dataset]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    found = {}
    for split, pattern in (spec.files or {}).items():
        paths = sorted(glob.glob(str(Path(glob.escape(str(root))) / Path(pattern).expanduser()), recursive=True))
        if not paths:
            raise ParameterError(f"corpora.sources.{name}.files.{split}: no file is called {pattern}")
        kinds = {_format(name, path) for path in paths}
        if len(kinds) > 1:
            raise ParameterError(f"corpora.sources.{name}.files.{split}: {pattern} are files of several kinds; take one at a time")
        kind = kinds.pop()
        alone = len(paths) == 1 and spec.joined_by is None  # then its paragraphs are the texts, else a text a file
        whole = {"sample_by": "paragraph" if alone else "document"} if kind == "text" else {}
        try:
            found[split] = load_dataset(kind, data_files=[glob.escape(path) for path in paths], split="train", **whole)
        except (DatasetGenerationError, *DAMAGED) as error:
            reason = first_line(error.__cause__ or error)
            raise ParameterError(f"corpora.sources.{name}: {pattern} cannot be read as {kind}: {reason}") from None
    return found


def _format(name: str, path: str) -> str:
    suffixes = [suffix for suffix in Path(path).suffixes if suffix not in PACKED]
    if not suffixes or suffixes[-1] not in FORMATS:
        raise ParameterError(f"corpora.sources.{name}: {path} is none of {', '.join(FORMATS)}, packed or not")
    return FORMATS[suffixes[-1]]


def _texts(name: str, spec: CorpusSpec, rows: Dataset) -> list[str]:
    if spec.column not in rows.column_names:
        raise ParameterError(f"corpora.sources.{name}.column is {spec.column!r}; allowed is one of {', '.join(rows.column_names)}")
    kept = list((rows if spec.at_most is None else rows.select(range(min(spec.at_most, len(rows)))))[spec.column])
    for number, text in enumerate(kept):
        if not isinstance(text, str):
            where = f"corpora.sources.{name}: row {number} of column {spec.column!r}"
            raise ParameterError(f"{where} is {text!r}, no text; leave such rows out")
    return [text.removeprefix("\ufeff") for text in kept]  # the byte-order mark of some editors is no text


def _in_three(texts: Mapping[str, list[str]], seed: int, held_out: float) -> Mapping[str, list[str]]:
    """``texts`` in three splits. Dealing goes by a hash of each text, so that equal texts stay together."""
    twins = [split for split in ("validation", "test") if split in texts]
    if not twins:
        return deal(texts["train"], seed, three_ways(held_out))
    held = texts if len(twins) == 2 else deal(texts[twins[0]], seed, {"validation": 0.5, "test": 1.0})
    return {"train": texts["train"], "validation": held["validation"], "test": held["test"]}


def three_ways(held_out: float) -> dict[str, float]:
    """Where each split ends between 0 and 1, when the share ``held_out`` is held out twice."""
    return {"validation": held_out, "test": 2 * held_out, "train": 1.0}


def deal(items: Iterable[Any], seed: int, bounds: Mapping[str, float], name: Callable[[Any], str] = str) -> dict[str, list[Any]]:
    """``items`` in order, each in the first split that ends (by ``bounds``) behind the place of its name."""
    dealt: dict[str, list[Any]] = {split: [] for split in bounds}
    for item in items:
        dealt[next(split for split, bound in bounds.items() if place(name(item), seed) < bound)].append(item)
    return dealt


def place(text: str, seed: int) -> float:
    """Where ``text`` falls between 0 and 1, by a hash of it and ``seed``: what decides its split."""
    return int.from_bytes(digest(f"{seed}:{text}")) / 2**64


def digest(text: str) -> bytes:
    """Eight bytes that tell texts apart."""
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()
