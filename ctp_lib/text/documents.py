"""The documents of a study, as they lie on disk: ``<folder>/<corpus>/<split>.jsonl.gz``, one ``{"name", "text"}`` object a line."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ctp_lib.settings.spec import ParameterError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Document:
    """One text; ``name`` is the qualified name of what it documents, with which it begins, or empty."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}\n\n{self.text}" if self.name else self.text


def documents(folder: Path, corpus: str, part: str) -> Iterator[Document]:
    """The documents of one split, one after the other. Raises :class:`ParameterError` when the corpus is not there or damaged."""
    path = folder / corpus / f"{part}.jsonl.gz"
    if not path.exists():
        raise ParameterError(f"{path} is not there; make it with `dvc repro corpora`")
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield Document(**json.loads(line))
    except (OSError, EOFError, json.JSONDecodeError, TypeError) as error:
        raise ParameterError(f"{path} is damaged ({error}); delete it and run `dvc repro corpora`") from None
