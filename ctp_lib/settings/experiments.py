"""What each question of the study asks for, one section a notebook, and how much text is scored."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from ctp_lib.settings.learning import TrainingSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import SPEC, Count, Positive, Seeds, Window, each_once, only, require


@dataclass(**SPEC)
class EvaluationSpec:
    """Window length in tokens and, by split, the largest number of windows that is scored."""

    window: Window
    windows: Mapping[str, int]

    def __post_init__(self) -> None:
        require(set(self.windows) == {"validation", "test"}, "windows", dict(self.windows), "a number for validation and for test")
        require(min(self.windows.values()) >= 2, "windows", dict(self.windows), "2 windows or more for each split")


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


@dataclass(**SPEC)
class CrossCompressionSpec:
    """Which of the learned prompts (by seed) are stitched to every other level."""

    seeds: Seeds


@dataclass(**SPEC)
class TasksSpec:
    """Zero-shot tasks by lm-eval's names, items of each at most, the levels that are asked, and a ``folder`` of one's own tasks as its YAML."""

    names: Annotated[tuple[str, ...], only(bool, "one task or more")]
    items: Annotated[int, Field(ge=8)]
    levels: tuple[str, ...]
    seeds: Seeds
    folder: str | None = None


@dataclass(**SPEC)
class KnowledgeSpec:
    """Facts of these ``relations`` (:mod:`ctp_lib.text.facts`), ``items`` of each at most, asked at these ``levels``, and at those that repairs
    are compared at also behind these repairs (``methods``).

    ``written``: so many texts are written to be compared with the right ones, in summaries and in the audit of LLM-KICK's metrics. ``tasks`` are
    asked beside the facts, by lm-eval's names or those of :mod:`ctp_lib.evaluation.llm_kick`. ``smaller``: for a model, a smaller one of its
    family, with which its pruned levels are compared.
    """

    relations: Annotated[tuple[str, ...], only(each_once, "one relation or more, each once")]
    items: Annotated[int, Field(ge=8)]
    levels: Annotated[tuple[str, ...], only(each_once, "levels, each once")]
    methods: tuple[str, ...] = ()
    written: Annotated[int, Field(ge=8)] = 24
    tasks: tuple[str, ...] = ()
    smaller: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclass(**SPEC)
class RepairSpec:
    """A method at several ``sizes``: what differs from its usual settings, by the name that tables print. ``rates`` are swept at the first size;
    what is not trained has none. ``full``: it is also learned on the uncompressed model. ``seeds``: others than the comparison's.
    """

    sizes: Annotated[Mapping[str, Mapping[str, Any]], only(bool, "one size or more")]
    rates: tuple[Positive, ...] = ()
    full: bool = False
    seeds: Seeds | None = None


@dataclass(**SPEC)
class ComparisonSpec:
    """Every repair side by side on the same compressed models, with the same text, for as many steps.

    Each method's learning rate is the best on validation, at its first size: of its list, and of up to ``further_rates`` beyond an end of it.
    ``compressors`` are levels by other methods, which are scored as they are.
    """

    levels: tuple[str, ...]
    seeds: Seeds
    repairs: Mapping[str, RepairSpec]
    further_rates: Annotated[int, Field(ge=0)] = 2
    compressors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        asked = "sections with soft_prompt and lora, which claim C8 is about"
        require({"soft_prompt", "lora"} <= set(self.repairs), "comparison.repairs", list(self.repairs), asked)
        said = all("prompt_tokens" in size for size in self.repairs["soft_prompt"].sizes.values())
        require(said, "comparison.repairs.soft_prompt.sizes", dict(self.repairs["soft_prompt"].sizes), "sizes with prompt_tokens")
        for level in self.compressors:
            Level.parse(level)

    @property
    def prompt_tokens(self) -> list[int]:
        """Of every size of a soft prompt."""
        return [size["prompt_tokens"] for size in self.repairs["soft_prompt"].sizes.values()]


@dataclass(**SPEC)
class Pair:
    """A model, and others with the same tokenizer and width: first the one that a claim is made about, then controls."""

    model: str
    others: Annotated[tuple[str, ...], only(bool, "a model or more")]


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
    """The smallest effects that matter: ``nats`` a token, shares of the items and of the bytes, and ``tokens`` that two prompts both name."""

    nats: Positive
    accuracy: Positive
    bytes: Positive
    tokens: Positive


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
    """How a model that ships with the study is made: from nothing or the model that it ``continues``, on all ``corpora`` or those named."""

    seed: int
    shape: Shape
    training: TrainingSpec
    continues: str | None = None
    corpora: tuple[str, ...] = ()
