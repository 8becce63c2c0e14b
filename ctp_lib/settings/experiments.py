"""What each question of the study asks for: one section a notebook."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from ctp_lib.settings.learning import TrainingSpec
from ctp_lib.settings.spec import SPEC, Count, Seeds, require, require_seeds


@dataclass(**SPEC)
class HardPromptSpec:
    """Sentences put before held-out text, by name, and the neutral texts they have to beat.

    Of each of ``items`` documents the first ``context`` tokens are read and the next ``continuation`` scored. ``questions``, with words of
    a right answer, are asked of models that take instructions.
    """

    texts: Mapping[str, str]
    neutral: tuple[str, ...]
    items: Count
    context: Count
    continuation: Count
    show: Count
    questions: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclass(**SPEC)
class CrossDatasetSpec:
    """At which levels prompts are also learned directly on every other corpus, and with which seeds."""

    levels: tuple[str, ...]
    seeds: Seeds

    def __post_init__(self) -> None:
        require_seeds(self.seeds)


@dataclass(**SPEC)
class CrossCompressionSpec:
    """Which of the learned prompts (by seed) are stitched to every other level."""

    seeds: Seeds

    def __post_init__(self) -> None:
        require_seeds(self.seeds)


@dataclass(**SPEC)
class TasksSpec:
    """Zero-shot tasks by lm-eval's names, items of each at most, and the levels that are asked. ``folder`` holds tasks of your own, as
    YAML that lm-eval reads.
    """

    names: tuple[str, ...]
    items: Annotated[int, Field(ge=8)]
    levels: tuple[str, ...]
    seeds: Seeds
    folder: str | None = None

    def __post_init__(self) -> None:
        require(len(self.names) > 0, "names", list(self.names), "one task or more")
        require_seeds(self.seeds)


@dataclass(**SPEC)
class ComparisonSpec:
    """Soft prompts of several lengths against LoRA of several ranks, on the same model, with the soft prompt's loop and text.

    Each method's learning rate is the best on validation, at the study's own prompt length and at ``lora_points[0]``: of its list,
    and of up to ``further_rates`` beyond it, while the best is at an end.
    ``lora_targets`` are sets of modules by name; a point of the comparison is ``<rank>@<set>``.
    """

    levels: tuple[str, ...]
    seeds: Seeds
    prompt_tokens: tuple[int, ...]
    prompt_rates: tuple[float, ...]
    lora_targets: Mapping[str, tuple[str, ...]]
    lora_points: tuple[str, ...]
    lora_rates: tuple[float, ...]
    further_rates: Annotated[int, Field(ge=0)] = 2

    def __post_init__(self) -> None:
        require_seeds(self.seeds)
        for point in self.lora_points:
            rank, _, targets = point.partition("@")
            allowed = f"<rank>@<set>, a set being one of {', '.join(self.lora_targets)}"
            require(rank.isdigit() and int(rank) > 0 and targets in self.lora_targets, "lora_points", point, allowed)
        for name in ("prompt_tokens", "prompt_rates", "lora_points", "lora_rates"):
            require(len(getattr(self, name)) > 0, name, [], "at least one value")


@dataclass(**SPEC)
class Pair:
    """A model, and others with the same tokenizer and width: first the one that a claim is made about, then controls."""

    model: str
    others: tuple[str, ...]

    def __post_init__(self) -> None:
        require(len(self.others) > 0, "others", [], "a model or more")


@dataclass(**SPEC)
class AnotherModelSpec:
    """At which levels the prompts of a model are taken to another one."""

    pairs: tuple[Pair, ...]
    levels: tuple[str, ...]

    def of(self, model: str) -> tuple[str, ...]:
        """The other models that prompts of ``model`` are taken to."""
        return next((pair.others for pair in self.pairs if pair.model == model), ())


@dataclass(**SPEC)
class MarginsSpec:
    """The smallest effects that matter: ``nats`` a token, ``accuracy`` as a share of the items, ``bytes`` as a share, ``tokens`` that two
    prompts both name.
    """

    nats: Annotated[float, Field(gt=0)]
    accuracy: Annotated[float, Field(gt=0)]
    bytes: Annotated[float, Field(gt=0)]
    tokens: Annotated[float, Field(gt=0)]


@dataclass(**SPEC)
class Shape:
    """Size of a small model: ``width`` and ``feed_forward`` in features, ``context`` in tokens."""

    layers: Count
    width: Count
    heads: Count
    feed_forward: Count
    vocabulary: Count
    context: Count

    def __post_init__(self) -> None:
        require(self.width % self.heads == 0, "width", self.width, f"a multiple of heads ({self.heads})")
        require(self.vocabulary > 257, "vocabulary", self.vocabulary, "more than 257: 256 bytes and the end of text")


@dataclass(**SPEC)
class ShippedModelSpec:
    """How a model that ships with the study is made: from nothing, or out of the model that it ``continues``, on ``corpora`` (all of them
    unless some are named).
    """

    seed: int
    shape: Shape
    training: TrainingSpec
    continues: str | None = None
    corpora: tuple[str, ...] = ()
