"""A named corpus -> documents, in three splits that share no document.

Those of the embedded study are made of installed documentation (:mod:`ctp_lib.text.docstrings`), together, so that a text that two
packages carry lands in one split of one corpus only; others come from the hub or from files (:mod:`ctp_lib.text.sources`).
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from ctp_lib.settings import paths, study
from ctp_lib.settings.corpora import CorporaSpec
from ctp_lib.settings.spec import ParameterError, one_sentence
from ctp_lib.text import docstrings, sources
from ctp_lib.text.documents import SPLITS, Document

SHORTEST_LINE = 20  # characters; shorter lines (headings, brackets) say nothing about whether a text was seen before


def build(spec: CorporaSpec, folder: Path, *, root: Path) -> None:
    """Store all corpora in ``folder`` anew; :class:`ParameterError` when a package, file or data set is missing, or a split would be empty."""
    with paths.replacing(folder) as incoming:
        for corpus, parts in _in_splits(spec, root):
            for name, part in parts.items():
                if not part:
                    raise ParameterError(f"corpora.sources.{corpus}: the {name} split is empty; name more text in params.yaml")
                path = incoming / corpus / f"{name}.jsonl.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                lines = "".join(json.dumps(asdict(document)) + "\n" for document in part)
                path.write_bytes(gzip.compress(lines.encode(), compresslevel=6, mtime=0))


def _in_splits(spec: CorporaSpec, root: Path) -> Iterator[tuple[str, dict[str, list[Document]]]]:
    """First what may be missing, files and data sets, then the documentation, which takes a minute to read."""
    for corpus, source in spec.sources.items():
        if not source.packages:
            texts = sources.read(corpus, source, root=root, seed=spec.split_seed, held_out=spec.held_out)
            yield corpus, {part: [Document("", text) for text in texts[part]] for part in SPLITS}
    for corpus, documents in deduplicate(read(spec)):
        yield corpus, split(documents, seed=spec.split_seed, held_out=spec.held_out)


def read(spec: CorporaSpec) -> Iterator[tuple[str, list[Document]]]:
    """Every corpus of installed documentation, before de-duplication; packages are read in two processes at a time."""
    asked = {corpus: source.packages for corpus, source in spec.sources.items() if source.packages}
    packages = list(dict.fromkeys(chain.from_iterable(asked.values())))
    for package in packages:
        docstrings.installed_version(package)  # a missing package stops here, before the long work
    with ProcessPoolExecutor(max_workers=2) as pool:
        texts = dict(zip(packages, pool.map(docstrings.read_package, packages), strict=True))
    for corpus, of_corpus in asked.items():
        kept = [pair for package in of_corpus for pair in texts[package] if len(pair[1]) >= spec.shortest_document]
        yield corpus, [Document(name, text[: spec.longest_document].rstrip()) for name, text in kept]


def deduplicate(corpora: Iterable[tuple[str, Iterable[Document]]]) -> Iterator[tuple[str, list[Document]]]:
    """Drop every document most of whose text was seen before, in any corpus.

    It counts as seen when at least three quarters of its characters stand in lines of :data:`SHORTEST_LINE` characters or more that an earlier
    one held (letter case and white space aside). Without it, inherited and templated docstrings put near copies into train and test.
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

    So the first documents of a split are a sample of all of them, another version of a package moves only the documents that it changed, and a
    text that the shipped model was trained on is not test text elsewhere. Overloads share a name and stay together.
    """
    in_order = sorted(documents, key=lambda document: sources.place(document.name, seed))
    return sources.deal(in_order, seed, sources.three_ways(held_out), name=lambda document: document.name)


@one_sentence()
def main() -> None:
    """``python -m ctp_lib.text.corpora``: build all corpora of ``params.yaml``."""
    settings = study.load()
    build(settings.corpora, paths.corpora(settings), root=settings.root)


if __name__ == "__main__":
    main()
