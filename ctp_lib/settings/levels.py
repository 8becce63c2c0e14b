"""Levels as people write them, and as paths: what is done to every matrix of a model, and by which method.

``4bit`` is GPTQ, ``62.5%`` and ``2:4`` are SparseGPT, ``50%+4bit`` is both in one pass: the paper's methods. ``2bit/g64`` quantises in
groups of 64 columns. A name before a colon takes another method of :mod:`ctp_lib.compression`: ``rtn:3bit``, ``wanda:2:4``. ``own:NAME``
is a compressed model that the reader brings.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal

from ctp_lib.settings.spec import ParameterError

_WHOLE = re.compile(r"(?:(?P<by>[a-z][a-z_-]*):)?(?P<what>[^/]+)(?:/g(?P<group>\d+))?")
_QUANTISED = re.compile(r"(\d+)bit")
_SPARSE = re.compile(r"(\d+(?:\.\d+)?)%")
_GIVEN = re.compile(r"own:([A-Za-z0-9][A-Za-z0-9._-]*)")
_PATTERN = re.compile(r"(\d+):(\d+)")
GRAMMAR = (
    "full, <bits>bit with 2 to 8 bits, <percent>%, <n>:<m>, or a sparsity and bits joined by +, such as 50%+4bit; /g64 after bits takes "
    "groups of 64 columns, and a method and a colon before all of it another method, such as rtn:3bit; own:<name> is a compressed model that "
    "stands under compressed of your model"
)
Family = Literal["full", "quantised", "pruned", "joint", "given"]
USUAL: dict[Family, str] = {"full": "none", "quantised": "gptq", "pruned": "sparsegpt", "joint": "joint", "given": "own"}
"""The paper's method for each family, which a level need not name."""


@dataclass(frozen=True)
class Level:
    """How far a model is compressed. ``bits`` None: not quantised; ``sparsity`` 0.0: not pruned.

    ``pattern`` (n, m) keeps n of every m consecutive weights of a row; ``sparsity`` is then 1 - n / m. ``group`` columns (None: a whole row)
    share a scale and a zero point. ``by`` is the method where it is not the usual one. ``given`` names a compressed model of the reader's own.
    """

    bits: int | None = None
    sparsity: float = 0.0
    pattern: tuple[int, int] | None = None
    group: int | None = None
    by: str | None = None
    given: str | None = None

    @classmethod
    def parse(cls, text: str) -> Level:
        """Read a level. Raises :class:`ParameterError` with the grammar."""
        if text == "full":
            return cls()
        if isinstance(text, str) and (match := _GIVEN.fullmatch(text)):
            return cls(given=match[1])
        match = _WHOLE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ParameterError(f"level {text!r} is not a level; write {GRAMMAR}")
        level = cls()
        for part in match["what"].split("+"):
            level = level._with(part, text)
        by = match["by"] if match["by"] != USUAL[level.family] else None
        level = dataclasses.replace(level, group=match["group"] and int(match["group"]), by=by)
        if str(level) != text or level.group == 0 or (level.group and not level.bits):
            meant = f" (did you mean {level}?)" if str(level) != text else ""
            raise ParameterError(f"level {text!r} is not a level{meant}; write {GRAMMAR}")
        return level

    def _with(self, part: str, text: str) -> Level:
        if (match := _QUANTISED.fullmatch(part)) and self.bits is None and 2 <= int(match[1]) <= 8:
            return dataclasses.replace(self, bits=int(match[1]))
        if (match := _SPARSE.fullmatch(part)) and not self.sparsity and 0 < float(match[1]) < 100:
            return dataclasses.replace(self, sparsity=float(match[1]) / 100)
        if (match := _PATTERN.fullmatch(part)) and not self.sparsity and 0 < int(match[1]) < int(match[2]):
            kept, group = int(match[1]), int(match[2])
            return dataclasses.replace(self, sparsity=1 - kept / group, pattern=(kept, group))
        raise ParameterError(f"level {text!r} is not a level; write {GRAMMAR}")

    def __str__(self) -> str:
        return self._spelled(kept="{}:{}", pruned="{:.6g}%", bits="{}bit", group="/g{}", by="{}:", between="+")

    @property
    def slug(self) -> str:
        """The level in a path, on every system: ``w3``, ``w2g64``, ``s62.5``, ``2of4``, ``s50-w4``, ``rtn-w3``."""
        return self._spelled(kept="{}of{}", pruned="s{:.6g}", bits="w{}", group="g{}", by="{}-", between="-")

    def _spelled(self, *, kept: str, pruned: str, bits: str, group: str, by: str, between: str) -> str:
        if self.family in ("full", "given"):
            return by.format("own") + self.given if self.given else "full"
        parts = [kept.format(*self.pattern) if self.pattern else pruned.format(100 * self.sparsity)] if self.sparsity else []
        parts += [bits.format(self.bits)] if self.bits else []
        return (by.format(self.by) if self.by else "") + between.join(parts) + (group.format(self.group) if self.group else "")

    @property
    def method(self) -> str:
        """The method of :mod:`ctp_lib.compression` that does it."""
        return self.by or USUAL[self.family]

    @property
    def family(self) -> Family:
        """What is done to the matrices, whatever the method."""
        if self.given:
            return "given"
        if self.bits is None:
            return "pruned" if self.sparsity else "full"
        return "joint" if self.sparsity else "quantised"
