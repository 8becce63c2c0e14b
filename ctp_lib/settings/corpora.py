"""Texts by name."""

from collections.abc import Mapping
from typing import Annotated

from pydantic.dataclasses import dataclass

from ctp_lib.settings.spec import SPEC, Count, only, require


@dataclass(**SPEC)
class CorpusSpec:
    """Where a corpus comes from: ``packages``, names of installed distributions or ``python``; or a hub ``dataset``, with the
    ``config``, ``revision`` and ``files`` (by split) that it takes; or ``files`` alone, the reader's own, by split.

    ``column`` holds the text of a row. ``at_most`` so many rows of a split are read; ``joined_by`` makes one text of them.
    """

    packages: tuple[str, ...] | None = None
    dataset: str | None = None
    config: str | None = None
    revision: str | None = None
    files: Mapping[str, str] | None = None
    column: str = "text"
    joined_by: str | None = None
    at_most: Count | None = None

    def __post_init__(self) -> None:
        require(self.packages != (), "packages", self.packages, "at least one installed package")
        given = [name for name in ("packages", "dataset", "files") if getattr(self, name) is not None]
        one = given in (["packages"], ["dataset"], ["files"], ["dataset", "files"])
        require(one, "source", given, "packages, or dataset (with files, if it has no splits), or files")
        if self.files is not None:
            known = "train" in self.files and set(self.files) <= {"train", "validation", "test"}
            require(known, "files", dict(self.files), "a path for train, and, if there are such, for validation and test")


@dataclass(**SPEC)
class CorporaSpec:
    """The corpora by name, the length of documents in characters, the share held out twice, and the seed by which documents are dealt
    into splits: one of its own, since a model that was trained on one deal knows the test text of another.
    """

    sources: Annotated[Mapping[str, CorpusSpec], only(bool, "names with values")]
    shortest_document: Count
    longest_document: Count
    held_out: Annotated[float, only(lambda share: 0 < share < 0.5, "a share above 0 and below 0.5")]
    split_seed: int = 0

    def __post_init__(self) -> None:
        longer = self.longest_document >= self.shortest_document
        require(longer, "longest_document", self.longest_document, f"at least shortest_document ({self.shortest_document})")
