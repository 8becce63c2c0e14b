"""Test text that a model was trained on is no test. The models that ship with the study say which documents they have read."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from ctp_lib.settings import paths
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study
from ctp_lib.text.documents import Document, documents

FILE = "training_documents.bin"
"""In a model's folder: five bytes of a digest for every document it was trained on, in order."""
BYTES = 5


def mark(document: Document) -> bytes:
    """What stands for a document: a digest of its name, by which it was dealt into a split, or of its text where it has none."""
    return hashlib.blake2b((document.name or document.text).encode(errors="replace"), digest_size=BYTES).digest()


def write(read: Iterable[Document], folder: Path) -> None:
    """Write down which documents a model has read."""
    (folder / FILE).write_bytes(b"".join(sorted({mark(document) for document in read})))


def check(settings: Study, spec: ModelSpec) -> None:
    """Raise :class:`ParameterError` where a test split holds a document that the model was trained on, as far as its folder says."""
    path = spec.root / spec.source / FILE
    if not path.exists():
        return
    whole = path.read_bytes()
    seen = {whole[first : first + BYTES] for first in range(0, len(whole), BYTES)}
    for corpus in settings.corpora.sources:
        test = list(documents(paths.corpora(settings), corpus, "test"))
        known = sum(mark(document) in seen for document in test)
        if known:
            raise ParameterError(
                f"{known} of {len(test)} test documents of {corpus} were training text of model {spec.source!r}; set corpora.split_seed and "
                "corpora.held_out as that model was trained with, or take another model"
            )
