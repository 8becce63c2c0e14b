"""What the corpora hold, for a card: documents, characters and tokens, and the packages they were read from."""

import hashlib
import itertools
import re
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from transformers import PreTrainedTokenizerBase

from ctp_lib.settings.corpora import CorporaSpec
from ctp_lib.text import docstrings
from ctp_lib.text.documents import SPLITS, documents
from ctp_lib.text.windows import tokens


def card(spec: CorporaSpec, folder: Path, tokenizer: PreTrainedTokenizerBase, lock: Path) -> dict[str, Any]:
    """What the corpora hold: documents, characters and tokens by split, a digest, and which versions they were read from."""
    rows = []
    for corpus, part in itertools.product(spec.sources, SPLITS):
        texts = list(documents(folder, corpus, part))
        digest = hashlib.sha256((folder / corpus / f"{part}.jsonl.gz").read_bytes()).hexdigest()
        characters, count = sum(len(str(document)) for document in texts), len(tokens(texts, tokenizer))
        sizes = {"documents": len(texts), "characters": characters, "tokens": count, "sha256": digest}
        rows.append({"corpus": corpus, "split": part, **sizes})
    packages = [package for source in spec.sources.values() for package in source.packages or ()]
    versions = {package: docstrings.installed_version(package) for package in packages}
    lines = (re.split("[#;]", line)[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
    pinned = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines) if version}
    differing = {}
    for package, version in versions.items():
        locked = pinned.get(canonicalize_name(package), version)
        if locked != version.split("+")[0]:
            differing[package] = f"{version} (lock: {locked})"
    return {"splits": rows, "versions": versions, "versions_that_differ_from_the_lock": differing}
