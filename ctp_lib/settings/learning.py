"""How something is learned on a frozen model."""

from typing import Annotated, Literal

from pydantic.dataclasses import dataclass

from ctp_lib.settings.spec import SPEC, Count, Positive, Seeds, Share, only, require


@dataclass(**SPEC)
class TrainingSpec:
    """How to train. The paper's recipe: AdamW, no weight decay, linear schedule with warm-up, clip 1.0.

    A step has ``batch_windows`` windows, of which ``windows_at_once`` (all, unless said) are in memory, their gradients added up. ``recompute``
    computes a layer's activations again in the backward pass instead of keeping them. ``compile`` translates the layers before the first step,
    which takes a minute and pays in long trainings; on a CPU it needs a C++ compiler. ``schedule`` is ``linear`` (decay to zero from the end
    of the warm-up) or ``trapezoid`` (constant, then linear to zero over the last 30 %).
    """

    steps: Count
    batch_windows: Count
    learning_rate: Positive
    warmup_steps: int
    validate_every: Count
    schedule: Literal["linear", "trapezoid"] = "linear"
    weight_decay: Share = 0.0
    clip: Positive = 1.0
    checkpoint_every: Count = 50
    windows_at_once: int | None = None
    recompute: bool = False
    compile: bool = False

    @property
    def at_once(self) -> int:
        """Windows whose activations are in memory together."""
        return self.windows_at_once or self.batch_windows

    def __post_init__(self) -> None:
        at_once = self.windows_at_once
        require(at_once is None or 0 < at_once <= self.batch_windows, "windows_at_once", at_once, "1 to batch_windows")
        require(0 <= self.warmup_steps < self.steps, "warmup_steps", self.warmup_steps, f"0 to steps - 1 ({self.steps - 1})")


LOSSES = {"next-token": "the plain next-token loss", "distillation": "the divergence from what the uncompressed model predicts"}
"""What is learned by, for people."""
Loss = Literal["next-token", "distillation"]


@dataclass(**SPEC, kw_only=True)
class RecipeSpec:
    """A way to learn a prompt of ``prompt_tokens`` vectors: starting from the first ids of the vocabulary or drawn ones, by a loss."""

    prompt_tokens: Count
    training: TrainingSpec
    initialisation: Literal["first", "sampled"] = "first"
    loss: Loss = "next-token"


@dataclass(**SPEC, kw_only=True)
class SoftPromptSpec(RecipeSpec):
    """What prompts to learn, on which corpus, and how; one prompt for each of ``seeds``. ``recipe`` names one of ``Study.recipes``, which
    gives what is not written out. Other methods learn from the same text, for as many steps, with the same seeds.
    """

    corpus: str
    seeds: Seeds
    recipe: str | None = None

    @property
    def how(self) -> str:
        """The loss in words, and the name of the recipe."""
        return LOSSES[self.loss] + (f" (recipe `{self.recipe}`)" if self.recipe else "")


@dataclass(**SPEC)
class LoraSpec:
    """LoRA (Hu et al. 2021) on the modules whose names end in one of ``targets``."""

    rank: Count
    targets: tuple[str, ...]
    training: TrainingSpec
    alpha: Positive = 32.0
    dropout: Annotated[float, only(lambda share: 0 <= share < 1, "0 or more and below 1")] = 0.1
    loss: Loss = "next-token"


@dataclass(**SPEC)
class TunedSpec:
    """What has no settings but how it is trained."""

    training: TrainingSpec
    loss: Loss = "next-token"
