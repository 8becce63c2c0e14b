"""``params.yaml`` as checked objects.

Everything that a notebook may ask for by name (a model, a level, a corpus) is resolved here, before any work. A wrong
value raises :class:`ParameterError` with one sentence: the field, the value, what is allowed.
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML, YAMLError


class ParameterError(ValueError):
    """A value in ``params.yaml`` or in a parameters cell that the study cannot run with."""


# -------------------------------------------------------------------------------------------------- levels

_QUANTISED = re.compile(r"(\d+)bit")
_SPARSE = re.compile(r"(\d+(?:\.\d+)?)%")
_PATTERN = re.compile(r"(\d+):(\d+)")
_LEVEL_GRAMMAR = "full, <bits>bit with 2 to 8 bits, <percent>%, <n>:<m>, or a sparsity and bits joined by +, such as 50%+4bit"


@dataclass(frozen=True)
class Level:
    """How far a model is compressed. ``bits`` None: not quantised; ``sparsity`` 0.0: not pruned.

    ``pattern`` (n, m) keeps n of every m consecutive weights of a row; ``sparsity`` is then 1 - n / m.
    """

    bits: int | None = None
    sparsity: float = 0.0
    pattern: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> Level:
        """Read a level as people write it: ``4bit``, ``62.5%``, ``2:4``, ``50%+4bit``, ``full``."""
        if text == "full":
            return cls()
        if not isinstance(text, str) or not text:
            raise ParameterError(f"level {text!r} is not a level; write {_LEVEL_GRAMMAR}")
        level = cls()
        for part in text.split("+"):
            level = level._with(part, text)
        if str(level) != text:
            raise ParameterError(f"level {text!r} is not a level (did you mean {level}?); write {_LEVEL_GRAMMAR}")
        return level

    def _with(self, part: str, text: str) -> Level:
        if (match := _QUANTISED.fullmatch(part)) and self.bits is None and 2 <= int(match[1]) <= 8:
            return dataclasses.replace(self, bits=int(match[1]))
        if (match := _SPARSE.fullmatch(part)) and not self.sparsity and 0 < float(match[1]) < 100:
            return dataclasses.replace(self, sparsity=float(match[1]) / 100)
        if (match := _PATTERN.fullmatch(part)) and not self.sparsity and 0 < int(match[1]) < int(match[2]):
            kept, group = int(match[1]), int(match[2])
            return dataclasses.replace(self, sparsity=1 - kept / group, pattern=(kept, group))
        raise ParameterError(f"level {text!r} is not a level; write {_LEVEL_GRAMMAR}")

    def __str__(self) -> str:
        parts = []
        if self.pattern:
            parts.append(f"{self.pattern[0]}:{self.pattern[1]}")
        elif self.sparsity:
            parts.append(f"{100 * self.sparsity:.6g}%")
        if self.bits is not None:
            parts.append(f"{self.bits}bit")
        return "+".join(parts) or "full"

    @property
    def family(self) -> Literal["full", "quantised", "pruned", "joint"]:
        """Which of the paper's families the level belongs to."""
        if self.bits is None:
            return "pruned" if self.sparsity else "full"
        return "joint" if self.sparsity else "quantised"


# --------------------------------------------------------------------------------------------------- specs


@dataclass(frozen=True)
class ModelSpec:
    """A causal LM: a folder (from the project's root) or hub id, a hub revision or None, and the dtype it computes in."""

    source: str
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


@dataclass(frozen=True)
class CorpusSpec:
    """Where a corpus comes from: ``packages`` are names of installed distributions, or ``python``."""

    packages: tuple[str, ...]

    def __post_init__(self) -> None:
        _require(len(self.packages) > 0, "packages", self.packages, "at least one installed package")


@dataclass(frozen=True)
class CorporaSpec:
    """The corpora by name, the length of documents in characters, the share held out twice."""

    sources: Mapping[str, CorpusSpec]
    shortest_document: int
    longest_document: int
    held_out: float

    def __post_init__(self) -> None:
        _require(self.shortest_document >= 1, "shortest_document", self.shortest_document, "1 or more characters")
        longer = self.longest_document >= self.shortest_document
        _require(longer, "longest_document", self.longest_document, f"at least shortest_document ({self.shortest_document})")
        _require(0 < self.held_out < 0.5, "held_out", self.held_out, "a share above 0 and below 0.5")


@dataclass(frozen=True)
class Shape:
    """Size of the reference model: ``width`` and ``feed_forward`` in features, ``context`` in tokens."""

    layers: int
    width: int
    heads: int
    feed_forward: int
    vocabulary: int
    context: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _require_positive(self, field.name)
        _require(self.width % self.heads == 0, "width", self.width, f"a multiple of heads ({self.heads})")
        _require(self.vocabulary > 257, "vocabulary", self.vocabulary, "more than 257: 256 bytes and the end of text")


@dataclass(frozen=True)
class TrainingSpec:
    """How to train. The paper's recipe: AdamW, no weight decay, linear schedule with warm-up, clip 1.0.

    ``steps``, ``warmup_steps``, ``validate_every`` and ``checkpoint_every`` count optimizer steps; ``batch_windows`` is the
    number of windows in a step. ``schedule`` is ``linear`` (decay to zero from the end of the warm-up) or ``trapezoid``
    (constant, then linear to zero over the last 30 %).
    """

    steps: int
    batch_windows: int
    learning_rate: float
    warmup_steps: int
    validate_every: int
    schedule: Literal["linear", "trapezoid"] = "linear"
    weight_decay: float = 0.0
    clip: float = 1.0
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        for name in ("steps", "batch_windows", "learning_rate", "validate_every", "clip", "checkpoint_every"):
            _require_positive(self, name)
        _require(0 <= self.warmup_steps < self.steps, "warmup_steps", self.warmup_steps, f"0 to steps - 1 ({self.steps - 1})")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")


@dataclass(frozen=True)
class ReferenceSpec:
    """How the embedded reference model is made."""

    shape: Shape
    training: TrainingSpec


@dataclass(frozen=True)
class CompressionSpec:
    """Calibration text (``windows`` x ``window`` tokens of ``corpus``) and the solver's settings (paper, section 4.1)."""

    corpus: str
    windows: int
    window: int
    dampening: float
    block_size: int
    backend: Literal["llmcompressor", "auto-gptq"] = "llmcompressor"

    def __post_init__(self) -> None:
        for name in ("windows", "dampening", "block_size"):
            _require_positive(self, name)
        _require(self.window >= 2, "window", self.window, "2 tokens or more")


@dataclass(frozen=True)
class SoftPromptSpec:
    """What prompt to learn, on which corpus, and how."""

    corpus: str
    prompt_tokens: int
    training: TrainingSpec
    initialisation: Literal["first", "sampled"] = "first"

    def __post_init__(self) -> None:
        _require_positive(self, "prompt_tokens")


@dataclass(frozen=True)
class EvaluationSpec:
    """Window length in tokens and, by split, the largest number of windows that is scored."""

    window: int
    windows: Mapping[str, int]

    def __post_init__(self) -> None:
        _require(self.window >= 2, "window", self.window, "2 tokens or more")
        _require(set(self.windows) == {"validation", "test"}, "windows", dict(self.windows), "a number for validation and for test")
        _require(min(self.windows.values()) >= 2, "windows", dict(self.windows), "2 windows or more for each split")


@dataclass(frozen=True)
class Study:
    """All of ``params.yaml``; ``root`` is the folder it stands in."""

    root: Path
    seed: int
    models: Mapping[str, ModelSpec]
    study: Mapping[str, tuple[str, ...]]
    corpora: CorporaSpec
    reference_model: ReferenceSpec
    compression: CompressionSpec
    soft_prompt: SoftPromptSpec
    evaluation: EvaluationSpec

    def __post_init__(self) -> None:
        _require(set(self.study) == {"models", "levels"}, "study", sorted(self.study), "models and levels")
        for name in self.study["models"]:
            _require(name in self.models, "study.models", name, f"a name under models: {', '.join(self.models)}")
        self._check_levels()
        for section in ("compression", "soft_prompt"):
            corpus = getattr(self, section).corpus
            _require(corpus in self.corpora.sources, f"{section}.corpus", corpus, f"one of {', '.join(self.corpora.sources)}")

    def _check_levels(self) -> None:
        texts = self.study["levels"]
        once = "full" in texts and len(set(texts)) == len(texts)
        _require(once, "study.levels", list(texts), "full, which all others are compared with, and each level once")
        for level in self.levels:
            group = level.pattern[1] if level.pattern else 1
            multiple = self.compression.block_size % group == 0
            _require(multiple, "compression.block_size", self.compression.block_size, f"a multiple of {group} for level {level}")

    @property
    def levels(self) -> list[Level]:
        """The levels that the study runs over, in its order."""
        return [Level.parse(level) for level in self.study["levels"]]

    def model(self, name: str) -> ModelSpec:
        """The model ``name`` of ``params.yaml``, or any folder or hub id that is not listed there."""
        if name in self.models:
            return self.models[name]
        if not isinstance(name, str) or not name.strip():
            raise ParameterError(f"model {name!r} is not a model; write a name under models in params.yaml, a folder, or a hub id")
        if "/" not in name and not (self.root / name).is_dir():
            raise ParameterError(
                f"model {name!r} is unknown; write one of {', '.join(self.models)}, a folder that exists, or a hub id (owner/name)"
            )
        return ModelSpec(source=name)


def load(path: Path | None = None) -> Study:
    """Read and check ``params.yaml``: the given one, or the nearest in this folder and those above it."""
    path = path or root() / "params.yaml"
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))  # YAML 1.2, as DVC reads it: 2:4 is text
    except YAMLError as error:
        raise ParameterError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ParameterError(f"{path} is {type(raw).__name__}, not sections with values")
    return _build(Study, {"root": path.parent.resolve(), **raw}, "")


def root() -> Path:
    """The project's folder: the nearest with a ``params.yaml``, from the working folder upwards."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").exists():
            return folder
    raise ParameterError(f"no params.yaml in {here} or above it; run from inside the project")


# ------------------------------------------------------------------------------------------------ checking


def _require(condition: bool, field: str, value: Any, allowed: str) -> None:
    if not condition:
        raise ParameterError(f"{field} is {value!r}; allowed is {allowed}")


def _require_positive(spec: Any, field: str) -> None:
    _require(getattr(spec, field) > 0, field, getattr(spec, field), "a number above 0")


def _build(kind: Any, value: Any, field: str) -> Any:
    """``value`` as ``kind``: a dataclass, a mapping, a tuple, a choice, or a plain type; errors name ``field``."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _build_spec(kind, value, field)
    if origin is Literal:
        _require(value in arguments, field, value, " or ".join(map(str, arguments)))
        return value
    if type(None) in arguments:
        return None if value is None else _build(arguments[0], value, field)
    if origin is tuple:
        _require(isinstance(value, list), field, value, "a list")
        return tuple(_build(arguments[0], item, field) for item in value)
    if origin is Mapping:
        _require(isinstance(value, dict) and len(value) > 0, field, value, "names with values")
        return {str(name): _build(arguments[1], item, f"{field}.{name}") for name, item in value.items()}
    return _plain(kind, value, field)


def _plain(kind: type, value: Any, field: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    said = {int: "a whole number", float: "a finite number", str: "text", Path: "a path"}[kind]
    _require(isinstance(value, kind) and not isinstance(value, bool), field, value, said)
    _require(kind is not float or math.isfinite(value), field, value, said)
    return value


def _build_spec(kind: Any, value: Any, field: str) -> Any:
    _require(isinstance(value, dict), field or "params.yaml", value, "a section with values")
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in dataclasses.fields(kind)}
    prefix = f"{field}." if field else ""
    for name in value:
        if name not in known:
            raise ParameterError(f"{prefix}{name} is not a parameter; allowed here are {', '.join(n for n in known if n != 'root')}")
    for name, item in known.items():
        if name not in value and item.default is dataclasses.MISSING:
            raise ParameterError(f"{prefix}{name} is missing in params.yaml")
    built = {name: _build(hints[name], item, prefix + name) for name, item in value.items()}
    try:
        return kind(**built)
    except ParameterError as error:
        raise ParameterError(f"{prefix}{error}") from None
