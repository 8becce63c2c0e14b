"""What the corpora hold, for a card: documents, characters and tokens, and the packages they were read from."""

import hashlib
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ctp_lib.settings.corpora import CorporaSpec
from ctp_lib.text import docstrings
from ctp_lib.text.documents import SPLITS, documents
from ctp_lib.text.windows import tokens


def card(spec: CorporaSpec, folder: Path, tokenizer: PreTrainedTokenizerBase, lock: Path) -> dict[str, Any]:
    """What the corpora hold: documents, characters and tokens by split, a digest, and which versions they were read from."""
    rows = []
    for corpus in spec.sources:
        for part in SPLITS:
            texts = list(documents(folder, corpus, part))
            digest = hashlib.sha256((folder / corpus / f"{part}.jsonl.gz").read_bytes()).hexdigest()
            characters = sum(len(str(document)) for document in texts)
            count = len(tokens(texts, tokenizer))
            sizes = {"documents": len(texts), "characters": characters, "tokens": count, "sha256": digest}
            rows.append({"corpus": corpus, "split": part, **sizes})
    versions = {
        package: docstrings.installed_version(package) for source in spec.sources.values() for package in source.packages or ()
    }
    pinned = _pins(lock)
    differing = {
        package: f"{version} (lock: {pinned[_normal(package)]})"
        for package, version in versions.items()
        if pinned.get(_normal(package), version) != version.split("+")[0]
    }
    return {"splits": rows, "versions": versions, "versions_that_differ_from_the_lock": differing}


def _pins(lock: Path) -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
    pairs = (line.partition("==") for line in lines)
    return {_normal(name): version.split(";")[0].strip() for name, _, version in pairs if version}


def _normal(package: str) -> str:
    """A package's name as the lock has it."""
    return package.lower().replace("_", "-")
