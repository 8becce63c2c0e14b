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


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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
    at_most: int | None = None

    def __post_init__(self) -> None:
        _require(self.packages is None or len(self.packages) > 0, "packages", self.packages, "at least one installed package")
        given = [name for name in ("packages", "dataset", "files") if getattr(self, name) is not None]
        one = given in (["packages"], ["dataset"], ["files"], ["dataset", "files"])
        _require(one, "source", given, "packages, or dataset (with files, if it has no splits), or files")
        if self.files is not None:
            known = "train" in self.files and set(self.files) <= {"train", "validation", "test"}
            _require(known, "files", dict(self.files), "a path for train, and, if there are such, for validation and test")
        _require(self.at_most is None or self.at_most > 0, "at_most", self.at_most, "a number above 0")


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
    number of windows in a step, of which ``windows_at_once`` (all, unless said) are in memory, their gradients added up.
    ``recompute`` computes a layer's activations again in the backward pass instead of keeping them. ``schedule`` is ``linear``
    (decay to zero from the end of the warm-up) or ``trapezoid`` (constant, then linear to zero over the last 30 %).
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
    windows_at_once: int | None = None
    recompute: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_windows", "learning_rate", "validate_every", "clip", "checkpoint_every"):
            _require_positive(self, name)
        at_once = self.windows_at_once
        _require(at_once is None or 0 < at_once <= self.batch_windows, "windows_at_once", at_once, "1 to batch_windows")
        _require(0 <= self.warmup_steps < self.steps, "warmup_steps", self.warmup_steps, f"0 to steps - 1 ({self.steps - 1})")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")


@dataclass(frozen=True)
class ShippedModelSpec:
    """How a model that ships with the study is made."""

    seed: int
    shape: Shape
    training: TrainingSpec


@dataclass(frozen=True)
class CompressionSpec:
    """Calibration text (``windows`` x ``window`` tokens of ``corpus``) and the solver's settings (paper, section 4.1).

    ``windows_at_once`` go through the model together.
    """

    corpus: str
    windows: int
    window: int
    dampening: float
    block_size: int
    backend: Literal["llmcompressor", "auto-gptq"] = "llmcompressor"
    windows_at_once: int = 16

    def __post_init__(self) -> None:
        for name in ("windows", "dampening", "block_size", "windows_at_once"):
            _require_positive(self, name)
        _require(self.window >= 2, "window", self.window, "2 tokens or more")


LOSSES = {"next-token": "the plain next-token loss", "distillation": "the divergence from what the uncompressed model predicts"}
"""What a prompt is learned by, for people."""


@dataclass(frozen=True, kw_only=True)
class RecipeSpec:
    """A way to learn a prompt of ``prompt_tokens`` vectors.

    ``initialisation`` starts from the embeddings of the first ids of the vocabulary, or of ids that are drawn; ``loss`` is the plain one of
    the next token, or the divergence from the uncompressed model's predictions (:mod:`ctp_lib.distillation`).
    """

    prompt_tokens: int
    training: TrainingSpec
    initialisation: Literal["first", "sampled"] = "first"
    loss: Literal["next-token", "distillation"] = "next-token"

    def __post_init__(self) -> None:
        _require_positive(self, "prompt_tokens")


@dataclass(frozen=True, kw_only=True)
class SoftPromptSpec(RecipeSpec):
    """What prompts to learn, on which corpus, and how; one prompt for each of ``seeds``. ``recipe`` names one of ``Study.recipes``, which
    gives what is not written out.
    """

    corpus: str
    seeds: tuple[int, ...]
    recipe: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_seeds(self)

    @property
    def how(self) -> str:
        """The loss in words, and the name of the recipe."""
        return LOSSES[self.loss] + (f" (recipe `{self.recipe}`)" if self.recipe else "")


@dataclass(frozen=True)
class ShapeComparisonSpec:
    """Candidates for the shape of the reference model: each trained for ``steps``, compressed to ``levels``, and given a ``prompt``."""

    shapes: Mapping[str, Shape]
    steps: int
    levels: tuple[str, ...]
    prompt: SoftPromptSpec

    def __post_init__(self) -> None:
        _require_positive(self, "steps")
        for level in self.levels:
            Level.parse(level)


@dataclass(frozen=True)
class LoraSpec:
    """LoRA (Hu et al. 2021) on the modules whose names end in one of ``targets``."""

    rank: int
    targets: tuple[str, ...]
    training: TrainingSpec
    alpha: float = 32.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("rank", "alpha"):
            _require_positive(self, name)
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "0 or more and below 1")


@dataclass(frozen=True)
class HardPromptSpec:
    """Sentences put before held-out text, by name, and the neutral one they have to beat.

    Of each of ``items`` documents the first ``context`` tokens are read and the next ``continuation`` scored.
    """

    texts: Mapping[str, str]
    neutral: str
    items: int
    context: int
    continuation: int
    show: int
    show_level: str

    def __post_init__(self) -> None:
        for name in ("items", "context", "continuation", "show"):
            _require_positive(self, name)
        Level.parse(self.show_level)


@dataclass(frozen=True)
class CrossDatasetSpec:
    """At which levels prompts are also learned directly on every other corpus, and with which seeds."""

    levels: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        _require_seeds(self)


@dataclass(frozen=True)
class CrossCompressionSpec:
    """Which of the learned prompts (by seed) are stitched to every other level."""

    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        _require_seeds(self)


@dataclass(frozen=True)
class TasksSpec:
    """Zero-shot tasks by lm-eval's names, items of each at most, and the levels that are asked. ``folder`` holds tasks of your own, as
    YAML that lm-eval reads.
    """

    names: tuple[str, ...]
    items: int
    levels: tuple[str, ...]
    seeds: tuple[int, ...]
    folder: str | None = None

    def __post_init__(self) -> None:
        _require(self.items >= 8, "items", self.items, "8 or more")
        _require(len(self.names) > 0, "names", list(self.names), "one task or more")
        _require_seeds(self)


@dataclass(frozen=True)
class ComparisonSpec:
    """Soft prompts of several lengths against LoRA of several ranks, on the same model, with the soft prompt's loop and text.

    Each method's learning rate is the best on validation, at the study's own prompt length and at ``lora_points[0]``: of its list,
    and of up to ``further_rates`` beyond it, while the best is at an end.
    ``lora_targets`` are sets of modules by name; a point of the comparison is ``<rank>@<set>``.
    """

    levels: tuple[str, ...]
    seeds: tuple[int, ...]
    prompt_tokens: tuple[int, ...]
    prompt_rates: tuple[float, ...]
    lora_targets: Mapping[str, tuple[str, ...]]
    lora_points: tuple[str, ...]
    lora_rates: tuple[float, ...]
    further_rates: int = 2

    def __post_init__(self) -> None:
        _require_seeds(self)
        _require(self.further_rates >= 0, "further_rates", self.further_rates, "0 or more")
        for point in self.lora_points:
            rank, _, targets = point.partition("@")
            allowed = f"<rank>@<set>, a set being one of {', '.join(self.lora_targets)}"
            _require(rank.isdigit() and int(rank) > 0 and targets in self.lora_targets, "lora_points", point, allowed)
        for name in ("prompt_tokens", "prompt_rates", "lora_points", "lora_rates"):
            _require(len(getattr(self, name)) > 0, name, [], "at least one value")

    def lora(self, point: str, training: TrainingSpec, rate: float) -> LoraSpec:
        """The LoRA of one point at a learning rate. Alpha is the rank, so one rate suits all ranks; dropout as in the paper."""
        rank, _, targets = point.partition("@")
        return LoraSpec(int(rank), self.lora_targets[targets], dataclasses.replace(training, learning_rate=rate), alpha=float(rank))


@dataclass(frozen=True)
class Pair:
    """A model and another with the same tokenizer and width."""

    model: str
    other: str


@dataclass(frozen=True)
class AnotherModelSpec:
    """At which levels the prompts of a model are taken to another one."""

    pairs: tuple[Pair, ...]
    levels: tuple[str, ...]

    def asks_of(self, model: str) -> bool:
        """Whether prompts of ``model`` are taken to another one."""
        return any(pair.model == model for pair in self.pairs)


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
class RunSpec:
    """What the study runs over, by name; ``levels`` as people write them."""

    models: tuple[str, ...]
    corpora: tuple[str, ...]
    levels: tuple[str, ...]

    def __post_init__(self) -> None:
        once = "full" in self.levels and len(set(self.levels)) == len(self.levels)
        _require(once, "levels", list(self.levels), "full, which all others are compared with, and each level once")
        for level in self.levels:
            Level.parse(level)


@dataclass(frozen=True)
class Study:
    """``params.yaml`` with the profile that it names; ``root`` is the folder it stands in. ``corpora`` are those of the profile."""

    root: Path
    seed: int
    device: Literal["auto", "cpu", "cuda", "mps"]
    models: Mapping[str, ModelSpec]
    study: RunSpec
    corpora: CorporaSpec
    shipped_models: Mapping[str, ShippedModelSpec]
    shape_comparison: ShapeComparisonSpec
    compression: CompressionSpec
    soft_prompt: SoftPromptSpec
    hard_prompt: HardPromptSpec
    cross_dataset: CrossDatasetSpec
    cross_compression: CrossCompressionSpec
    tasks: TasksSpec
    comparison: ComparisonSpec
    another_model: AnotherModelSpec
    evaluation: EvaluationSpec
    recipes: Mapping[str, RecipeSpec] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.study.models:
            _require(name in self.models, "study.models", name, f"a name under models: {', '.join(self.models)}")
        self._check_levels()
        for section in ("compression", "soft_prompt"):
            self._check_subset(f"{section}.corpus", (getattr(self, section).corpus,), self.study.corpora)
        documented = self.corpora.sources[self.soft_prompt.corpus].packages is not None
        for name in self.tasks.names:
            possible = documented or not name.startswith("documentation_")
            _require(
                possible, "tasks.names", name, "a task of lm-eval; these are made of documentation, and soft_prompt.corpus is none"
            )
        for pair in self.another_model.pairs:
            self._check_subset("another_model.pairs", (pair.model,), self.study.models)
            self._check_subset("another_model.pairs", (pair.other,), tuple(self.models))
        for section in ("cross_dataset", "tasks", "comparison", "another_model"):
            self._check_subset(f"{section}.levels", getattr(self, section).levels, self.study.levels)
        for section in ("cross_dataset", "cross_compression", "tasks", "comparison"):
            self._check_subset(f"{section}.seeds", getattr(self, section).seeds, self.soft_prompt.seeds)

    @staticmethod
    def _check_subset(field: str, values: tuple, allowed: tuple) -> None:
        for value in values:
            _require(value in allowed, field, value, f"one of {', '.join(map(str, allowed))}")

    def _check_levels(self) -> None:
        for level in self.levels:
            group = level.pattern[1] if level.pattern else 1
            multiple = self.compression.block_size % group == 0
            _require(multiple, "compression.block_size", self.compression.block_size, f"a multiple of {group} for level {level}")

    @property
    def levels(self) -> list[Level]:
        """The levels that the study runs over, in its order."""
        return [Level.parse(level) for level in self.study.levels]

    def prompts_by(self, recipe: str) -> SoftPromptSpec:
        """The study's prompts, learned in another way: by one of ``recipes``."""
        said = {field.name: getattr(self.recipes[recipe], field.name) for field in dataclasses.fields(RecipeSpec)}
        return dataclasses.replace(self.soft_prompt, recipe=recipe, **said)

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
    raw.pop("profiles", None)
    return _build(Study, {"root": path.parent.resolve(), **_with_recipe(_of_profile(raw))}, "")


def root() -> Path:
    """The project's folder: the nearest with a ``params.yaml``, from the working folder upwards."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").exists():
            return folder
    raise ParameterError(f"no params.yaml in {here} or above it; run from inside the project")


# ------------------------------------------------------------------------------------------------ checking


def _of_profile(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` with the sections of its profile, ``study``, beside the others, and of the corpora those that the profile names."""
    if "study" not in raw:
        return raw
    profile, corpora = raw["study"], raw.get("corpora")
    _require(isinstance(profile, dict), "study", profile, "a profile, such as *embedded")
    over = {field.name for field in dataclasses.fields(RunSpec)}
    sections = {name: section for name, section in profile.items() if name not in over}
    named = profile.get("corpora")
    if isinstance(corpora, dict) and isinstance(corpora.get("sources"), dict) and isinstance(named, list):
        sources = corpora["sources"]
        for name in named:
            _require(name in sources, "study.corpora", name, f"one of {', '.join(sources)}")
        corpora = {**corpora, "sources": {name: sources[name] for name in named}}
    return {**raw, "corpora": corpora, **sections, "study": {name: profile[name] for name in profile if name in over}}


def _with_recipe(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` with what its recipe says of a prompt and its training, where ``soft_prompt`` does not say it itself."""
    prompt, recipes = raw.get("soft_prompt"), raw.get("recipes")
    if not (isinstance(prompt, dict) and isinstance(recipes, dict) and prompt.get("recipe") is not None):
        return raw
    _require(prompt["recipe"] in recipes, "soft_prompt.recipe", prompt["recipe"], f"one of {', '.join(recipes)}")
    recipe = recipes[prompt["recipe"]]
    _build(RecipeSpec, recipe, f"recipes.{prompt['recipe']}")  # what is wrong is said where it stands
    return {**raw, "soft_prompt": {**recipe, **prompt, "training": {**recipe["training"], **prompt.get("training", {})}}}


def _require(condition: bool, field: str, value: Any, allowed: str) -> None:
    if not condition:
        raise ParameterError(f"{field} is {value!r}; allowed is {allowed}")


def _require_positive(spec: Any, field: str) -> None:
    _require(getattr(spec, field) > 0, field, getattr(spec, field), "a number above 0")


def _require_seeds(spec: Any) -> None:
    distinct = len(spec.seeds) > 0 and len(set(spec.seeds)) == len(spec.seeds)
    _require(distinct and min(spec.seeds) >= 0, "seeds", list(spec.seeds), "one whole number or more, 0 or above, each once")


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
    said = {int: "a whole number", float: "a finite number", str: "text", Path: "a path", bool: "true or false"}[kind]
    _require(isinstance(value, kind) and (kind is bool) == isinstance(value, bool), field, value, said)
    _require(kind is not float or math.isfinite(value), field, value, said)
    return value


def _build_spec(kind: Any, value: Any, field: str) -> Any:
    _require(isinstance(value, dict), field or "params.yaml", value, "a section with values")
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in dataclasses.fields(kind)}
    prefix = f"{field}." if field else ""
    for name in value:
        if name not in known:
            raise ParameterError(
                f"{prefix}{name} is not a parameter; allowed here are {', '.join(n for n in known if n != 'root')}"
            )
    for name, item in known.items():
        if name not in value and item.default is item.default_factory is dataclasses.MISSING:
            raise ParameterError(f"{prefix}{name} is missing in params.yaml")
    built = {name: _build(hints[name], item, prefix + name) for name, item in value.items()}
    try:
        return kind(**built)
    except ParameterError as error:
        raise ParameterError(f"{prefix}{error}") from None
