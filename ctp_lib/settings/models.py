"""A model, by name."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from ctp_lib.settings.spec import SPEC


@dataclass(**SPEC)
class ModelSpec:
    """A causal LM: a folder (from ``root``, the project's) or hub id, a hub revision or None, and the dtype it computes in."""

    source: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    root: Path = Path()

    def under(self, root: Path) -> ModelSpec:
        """The same, where folders are looked for in ``root``."""
        return dataclasses.replace(self, root=root)


def slug(name: str) -> str:
    """A model's name, folder or hub id as one part of a path."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name.strip("/").replace("/", "--"))
