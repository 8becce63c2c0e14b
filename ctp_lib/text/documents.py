"""The documents of a study, as they lie on disk: ``<folder>/<corpus>/<split>.jsonl.gz``, one ``{"name", "text"}`` object a line.

Test text that a model was trained on is no test: the models that ship with the study say which documents they have read.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ctp_lib.settings import paths
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study

SPLITS = ("train", "validation", "test")
MARKS, MARK_BYTES = "training_documents.bin", 5
"""In a model's folder: five bytes of a digest for every document it was trained on, in order."""


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
    except (OSError, EOFError, zlib.error, ValueError, TypeError) as error:
        raise ParameterError(f"{path} is damaged ({error}); delete it and run `dvc repro corpora`") from None


def _mark(document: Document) -> bytes:
    """What stands for a document: a digest of its name, by which it was dealt into a split, or of its text where it has none."""
    return hashlib.blake2b((document.name or document.text).encode(errors="replace"), digest_size=MARK_BYTES).digest()


def write_marks(read: Iterable[Document], folder: Path) -> None:
    """Write down which documents a model has read."""
    (folder / MARKS).write_bytes(b"".join(sorted({_mark(document) for document in read})))


def check_unread(settings: Study, spec: ModelSpec) -> bool:
    """Whether the model's folder says what it was trained on. Raises :class:`ParameterError` where a test split holds a document of that."""
    path = spec.root / spec.source / MARKS
    if not path.exists():
        return False
    whole = path.read_bytes()
    seen = {whole[first : first + MARK_BYTES] for first in range(0, len(whole), MARK_BYTES)}
    for corpus in settings.corpora.sources:
        test = list(documents(paths.corpora(settings), corpus, "test"))
        if known := sum(_mark(document) in seen for document in test):
            raise ParameterError(
                f"{known} of {len(test)} test documents of {corpus} were training text of model {spec.source!r}; set corpora.split_seed and "
                "corpora.held_out as that model was trained with, or take another model"
            )
    return True
