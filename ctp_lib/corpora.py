"""A named corpus -> documents -> windows of tokens, in three splits that share no document.

Those of the embedded study are made of installed documentation (:mod:`ctp_lib.docstrings`), together, so that a text that two
packages carry lands in one split of one corpus only; others come from the hub or from files (:mod:`ctp_lib.sources`). All are stored
as ``<folder>/<corpus>/<split>.jsonl.gz``, one ``{"name", "text"}`` object a line.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctp_lib import docstrings, places, sources, study
from ctp_lib.study import CorporaSpec, ParameterError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

SPLITS = ("train", "validation", "test")
SHORTEST_LINE = 20
"""Characters; shorter lines (headings, brackets) say nothing about whether a text was seen before."""


@dataclass(frozen=True)
class Document:
    """One text; ``name`` is the qualified name of what it documents, with which it begins, or empty."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}\n\n{self.text}" if self.name else self.text


# ------------------------------------------------------------------------------------------------ building


def build(spec: CorporaSpec, folder: Path, *, root: Path, seed: int) -> None:
    """Read, split and store all corpora; what stood in ``folder`` is replaced at the end.

    Raises :class:`ParameterError` when a package, a file or a data set is missing, or a split would be empty.
    """
    with places.replacing(folder) as incoming:
        for corpus, parts in _in_splits(spec, root, seed):
            for name, part in parts.items():
                if not part:
                    raise ParameterError(f"corpora.sources.{corpus}: the {name} split is empty; name more text in params.yaml")
                _write(part, incoming / corpus / f"{name}.jsonl.gz")


def _in_splits(spec: CorporaSpec, root: Path, seed: int) -> Iterator[tuple[str, dict[str, list[Document]]]]:
    """First what may be missing, files and data sets, then the documentation, which takes a minute to read."""
    installed = {name: source for name, source in spec.sources.items() if source.packages}
    for corpus, source in spec.sources.items():
        if not source.packages:
            texts = sources.read(corpus, source, root=root, seed=seed, held_out=spec.held_out)
            yield corpus, {part: [Document("", text) for text in texts[part]] for part in SPLITS}
    for corpus, documents in deduplicate(read(replace(spec, sources=installed))):
        yield corpus, split(documents, seed=seed, held_out=spec.held_out)


def read(spec: CorporaSpec) -> Iterator[tuple[str, list[Document]]]:
    """Every corpus of installed documentation, before de-duplication; packages are read in two processes at a time."""
    packages = list(dict.fromkeys(package for source in spec.sources.values() for package in source.packages))
    for package in packages:
        docstrings.installed_version(package)  # a missing package stops here, before the long work
    with ProcessPoolExecutor(max_workers=2) as pool:
        read_by_package = dict(zip(packages, pool.map(_read_package, packages), strict=True))
    for corpus, source in spec.sources.items():
        yield (
            corpus,
            [
                Document(name, text[: spec.longest_document].rstrip())
                for package in source.packages
                for name, text in read_by_package[package]
                if len(text) >= spec.shortest_document
            ],
        )


def deduplicate(corpora: Iterable[tuple[str, Iterable[Document]]]) -> Iterator[tuple[str, list[Document]]]:
    """Drop every document most of whose text was seen before, in any corpus.

    A document counts as seen when at least three quarters of its characters stand in lines of
    :data:`SHORTEST_LINE` characters or more that an earlier document held (letter case and white space aside). C4 does the same
    with spans of three sentences. Without it, inherited and templated docstrings put near copies into train and test.
    """
    seen: set[bytes] = set()
    for corpus, documents in corpora:
        kept = []
        for document in documents:
            lines = [" ".join(line.lower().split()) for line in document.text.splitlines()]
            lengths = {sources.digest(line): len(line) for line in lines if len(line) >= SHORTEST_LINE}
            lengths = lengths or {sources.digest(document.text): len(document.text)}
            repeated = sum(length for digest, length in lengths.items() if digest in seen)
            if 4 * repeated < 3 * sum(lengths.values()):
                kept.append(document)
            seen.update(lengths)
        yield corpus, kept


def split(documents: list[Document], *, seed: int, held_out: float) -> dict[str, list[Document]]:
    """Deal into train, validation and test by a hash of (seed, name), which also orders the documents of a split.

    So the first documents of a split are a sample of all of them. The hash, not a shuffle, so that another version of a
    package moves only the documents that it changed, and a text that the shipped model was trained on is not test text
    elsewhere. Overloads share a name and stay together.
    """
    parts: dict[str, list[Document]] = {part: [] for part in SPLITS}
    placed = [(sources.place(document.name, seed), document) for document in documents]
    for place, document in sorted(placed, key=itemgetter(0)):
        part = "validation" if place < held_out else "test" if place < 2 * held_out else "train"
        parts[part].append(document)
    return parts


def _read_package(package: str) -> list[tuple[str, str]]:
    return list(docstrings.read_package(package))


def _write(documents: list[Document], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"name": document.name, "text": document.text}) + "\n" for document in documents)
    path.write_bytes(gzip.compress("".join(lines).encode(), compresslevel=6, mtime=0))


# ------------------------------------------------------------------------------------------------- reading


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


def tokens(texts: Iterable[Document], tokenizer: PreTrainedTokenizerBase, at_least: int | None = None) -> Tensor:
    """All documents as one int32 row of token ids, each document followed by the end-of-sequence token.

    With ``at_least``, reads no further once that many tokens are there.
    """
    import torch

    texts, ids = iter(texts), []
    while chunk := [str(document) for document in islice(texts, 256)]:
        for row in tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"]:
            ids += [*row, tokenizer.eos_token_id]
        if at_least is not None and len(ids) >= at_least:
            break
    return torch.tensor(ids, dtype=torch.int32)


def windows(row: Tensor, length: int, at_most: int | None = None) -> Tensor:
    """Cut a row of token ids into non-overlapping windows: int64, number x ``length``; a last, shorter one is dropped.

    Raises :class:`ParameterError` when the text is too short for one window.
    """
    number = len(row) // length
    if number == 0:
        raise ParameterError(
            f"the text has {len(row)} tokens, fewer than one window of {length}; take more text or a shorter window"
        )
    number = min(number, at_most or number)
    return row[: number * length].view(number, length).long()


def random_windows(row: Tensor, length: int, number: int, seed: int) -> Tensor:
    """``number`` windows of ``length`` tokens at random places, as in the paper's calibration: int64.

    Raises :class:`ParameterError` when the text is too short for one window.
    """
    import torch

    if len(row) < length:
        raise ParameterError(
            f"the text has {len(row)} tokens, fewer than one window of {length}; take more text or a shorter window"
        )
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(row) - length + 1, (number,), generator=generator)
    return torch.stack([row[start : start + length] for start in starts.tolist()]).long()


def shuffled_batches(row: Tensor, length: int, batch_windows: int, seed: int) -> Callable[[int], Tensor]:
    """The batch of a step, int64, ``batch_windows`` x ``length``: a function of (seed, step) alone.

    Every epoch cuts ``row`` at another offset and takes the windows in another order. Raises :class:`ParameterError`
    when the text is too short for one batch.
    """
    import torch

    batches = (len(row) - length) // length // batch_windows
    if batches < 1:
        raise ParameterError(f"the text has {len(row)} tokens, too few for a batch of {batch_windows} windows of {length}")

    def batch(step: int) -> Tensor:
        epoch, position = divmod(step, batches)
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        offset = int(torch.randint(length, (1,), generator=generator))
        order = torch.randperm(batches * batch_windows, generator=generator)
        starts = offset + length * order[position * batch_windows : (position + 1) * batch_windows]
        return torch.stack([row[start : start + length] for start in starts.tolist()]).long()

    return batch


# ---------------------------------------------------------------------------------------------------- card


def card(spec: CorporaSpec, folder: Path, tokenizer: PreTrainedTokenizerBase, lock: Path) -> dict[str, Any]:
    """What the corpora hold: documents, characters and tokens by split, a digest, and which versions they were read from."""
    rows = []
    for corpus in spec.sources:
        for part in SPLITS:
            texts = list(documents(folder, corpus, part))
            digest = hashlib.sha256((folder / corpus / f"{part}.jsonl.gz").read_bytes()).hexdigest()
            characters = sum(len(str(document)) for document in texts)
            count = len(tokens(texts, tokenizer))
            rows.append(
                {
                    "corpus": corpus,
                    "split": part,
                    "documents": len(texts),
                    "characters": characters,
                    "tokens": count,
                    "sha256": digest,
                }
            )
    versions = {
        package: docstrings.installed_version(package) for source in spec.sources.values() for package in source.packages or ()
    }
    pinned = _pins(lock)
    differing = {
        package: f"{version} (lock: {pinned[package.lower()]})"
        for package, version in versions.items()
        if pinned.get(package.lower(), version) != version.split("+")[0]
    }
    return {"splits": rows, "versions": versions, "versions_that_differ_from_the_lock": differing}


def _pins(lock: Path) -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
    return {name.lower(): version for name, _, version in (line.partition("==") for line in lines) if version}


def main() -> None:
    """``python -m ctp_lib.corpora``: build all corpora of ``params.yaml``."""
    try:
        settings = study.load()
        build(settings.corpora, settings.root / "data" / "corpora", root=settings.root, seed=settings.seed)
    except ParameterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
