"""A model, by name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from ctp_lib.settings.spec import SPEC, require


@dataclass(**SPEC)
class ModelSpec:
    """A causal LM: a folder or a GGUF file (from ``root``, the project's) or hub id, a hub revision or None, and the dtype it computes in.

    With a ``package``, as pip takes it, the source is a GGUF file inside it, whose ``sha256`` is given. ``compressed`` are compressed copies of
    the reader's own, by name: folders, GGUF files or hub ids.
    """

    source: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    package: str | None = None
    sha256: str | None = None
    compressed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    root: Path = Path()

    def __post_init__(self) -> None:
        whole = not self.package or (self.gguf and self.sha256 is not None)
        require(whole, "package", self.package, "a package beside the source, a .gguf file in it, and that file's sha256")

    @property
    def gguf(self) -> bool:
        """Whether it is one file, which is imported before it is used."""
        return self.source.endswith(".gguf")

    @property
    def as_it_came(self) -> str:
        """What the level ``full`` is called: a GGUF file was rounded before, by somebody else."""
        return "as shipped" if self.gguf else "uncompressed"


def slug(name: str) -> str:
    """A model's name, folder or hub id as one part of a path."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name.strip("/").replace("/", "--"))
