"""DePT (Shi & Lipani 2023): a shorter prompt, and a low-rank offset of the word embeddings by position, together as large as a plain prompt."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from transformers import PreTrainedModel

from ctp_lib.evaluation.subject import Subject
from ctp_lib.recovery import kept
from ctp_lib.recovery.base import Method
from ctp_lib.recovery.learning import asked, learn
from ctp_lib.recovery.soft_prompt import SoftPrompt
from ctp_lib.settings.learning import RecipeSpec, TrainingSpec
from ctp_lib.settings.spec import SPEC, Count, Positive, only, require


@dataclass(**SPEC, kw_only=True)
class DeptSpec(RecipeSpec):
    """It has as many parameters as a plain prompt of ``prompt_tokens`` vectors. A ``share`` of them is the shorter prompt; the others are
    offsets of the first ``positions``.
    """

    positions: Count
    offset_rate: Positive
    share: Annotated[float, only(lambda share: 0 < share < 1, "above 0 and below 1")] = 0.4

    def sizes(self, width: int) -> tuple[int, int]:
        """Vectors of the prompt, and the rank of the offsets, for embeddings of ``width``."""
        vectors = max(1, round(self.share * self.prompt_tokens))
        rank = (self.prompt_tokens - vectors) * width // (self.positions + width)
        require(
            rank > 0,
            "methods.dept: soft_prompt.prompt_tokens",
            self.prompt_tokens,
            "large enough to leave parameters for the offsets",
        )
        return vectors, rank


@contextmanager
def offset(network: PreTrainedModel, left: Tensor, right: Tensor, vectors: int) -> Iterator[None]:
    """In the block, ``network`` adds ``left @ right`` to embeddings by their position in the text, which begins behind ``vectors`` positions."""
    decoder, start = network.get_decoder(), 0

    def before(_: nn.Module, __: Any, given: dict[str, Any]) -> None:
        nonlocal start
        cache = given.get("past_key_values")
        start = max(0, cache.get_seq_length() - vectors) if cache is not None and given.get("input_ids") is not None else 0

    def after(*_: Any) -> None:
        nonlocal start
        start = 0

    def moved(_: nn.Module, __: Any, found: Tensor) -> Tensor:
        rows = (left[start : start + found.shape[1]] @ right).to(found)
        return torch.cat([found[:, : len(rows)] + rows, found[:, len(rows) :]], 1) if len(rows) else found

    with (
        network.get_input_embeddings().register_forward_hook(moved),
        decoder.register_forward_pre_hook(before, with_kwargs=True),
        decoder.register_forward_hook(after),
    ):
        yield


class DecomposedPrompt(kept.Kept):
    """``prompt`` (vectors x width), ``left`` (positions x rank), ``right`` (rank x width), fp32."""

    @contextmanager
    def on(self, network) -> Iterator[Subject]:
        """The network with moved embeddings, behind the prompt."""
        prompt, left, right = (self.tensors[name].to(network.device) for name in ("prompt", "left", "right"))
        with offset(network, left, right, len(prompt)):
            yield Subject(network, prompt)


class Dept(Method):
    """By AdamW with two learning rates, at the step that is best on validation. Offsets start at zero (section 3.2)."""

    name, label, colour = "dept", "compressed + DePT", "#e67700"

    def settings(self, study, own) -> DeptSpec:
        """``share``, 0.4 unless said (the paper's 40 of 100), ``positions``, a window, and ``offset_rate``, a hundredth of the prompt's rate."""
        shared = study.soft_prompt
        rate = (own.get("training") or {}).get("learning_rate", shared.training.learning_rate)
        usual = {
            "prompt_tokens": shared.prompt_tokens,
            "initialisation": shared.initialisation,
            "positions": study.evaluation.window,
        }
        return asked(DeptSpec, study, self.name, own, rate, **usual, offset_rate=rate / 100)

    def learn(self, network, text, settings: DeptSpec, teacher, seed, *, checkpoint, label, **_) -> DecomposedPrompt:
        """By the soft prompt's loss."""
        width = network.get_input_embeddings().weight.shape[1]
        vectors, rank = settings.sizes(width)
        module = SoftPrompt.from_vocabulary(network, vectors, settings.initialisation, seed)
        generator = torch.Generator().manual_seed(seed)
        module.left = nn.Parameter(torch.randn(settings.positions, rank, generator=generator).to(network.device) / rank**0.5)
        module.right = nn.Parameter(torch.zeros(rank, width, device=network.device))

        def two_rates(_: nn.Module, spec: TrainingSpec) -> list[torch.optim.Optimizer]:
            rates = (spec.learning_rate, [module.prompt_embeddings]), (settings.offset_rate, [module.left, module.right])
            return [torch.optim.AdamW(group, lr=rate, weight_decay=spec.weight_decay) for rate, group in rates]

        with offset(network, module.left, module.right, vectors):
            given = (module, network, text, settings, teacher, seed)
            run = learn(*given, prompt=module, optimizers=two_rates, checkpoint=checkpoint, label=label)
        return DecomposedPrompt({"prompt": module(), "left": module.left, "right": module.right}, run)

    def load(self, folder, network) -> DecomposedPrompt:
        """Read it back."""
        return DecomposedPrompt(kept.read(folder / kept.FILE))


METHOD = Dept()
