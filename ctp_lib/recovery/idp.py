"""IDP (Hoang et al. 2023): several prompts of different lengths, of which each input takes the one it attends to most."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic.dataclasses import dataclass as section
from torch import Tensor
from transformers import PreTrainedModel

from ctp_lib.evaluation.subject import Subject
from ctp_lib.model.likelihood import stitched
from ctp_lib.recovery import kept
from ctp_lib.recovery.base import Method
from ctp_lib.recovery.learning import asked
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.recovery.training import TrainingRun
from ctp_lib.settings.learning import RecipeSpec
from ctp_lib.settings.spec import SPEC, Count, each_once, only


@section(**SPEC, kw_only=True)
class IdpSpec(RecipeSpec):
    """Prompts of these ``lengths``, learned each by itself; an input chooses by its first ``reads`` tokens."""

    lengths: Annotated[tuple[Count, ...], only(each_once, "one length or more, each once")]
    reads: Count = 64


class Pool(kept.Kept):
    """``tensors``: the prompts by their number, n x hidden each, fp32; ``reads`` as in :class:`IdpSpec`, itself a tensor in the file."""

    def __init__(self, prompts: Sequence[Tensor], reads: int, run: TrainingRun | None = None):
        super().__init__({str(number): prompt for number, prompt in enumerate(prompts)}, run)
        self.prompts, self.reads = list(self.tensors.values()), reads
        self.tensors["reads"] = torch.tensor(reads)

    @contextmanager
    def on(self, network) -> Iterator[Subject]:
        """The network behind the prompt that each input chooses."""
        yield Choosing(network, None, [prompt.to(network.device) for prompt in self.prompts], self.reads)


@dataclass(frozen=True)
class Choosing(Subject):
    """Sends every input to one of ``prompts``."""

    prompts: Sequence[Tensor] = ()
    reads: int = 0

    def routed(self, inputs: Sequence[Tensor]) -> Iterator[tuple[list[int], Subject]]:
        """By :func:`attended`."""
        chosen = attended(self.network, self.prompts, [row[: self.reads] for row in inputs]).argmax(1).tolist()
        for number, prompt in enumerate(self.prompts):
            if rows := [row for row, choice in enumerate(chosen) if choice == number]:
                yield rows, Subject(self.network, prompt)


@torch.inference_mode()
def attended(network: PreTrainedModel, prompts: Sequence[Tensor], rows: Sequence[Tensor]) -> Tensor:
    """How much attention the tokens of each of ``rows`` (int64, length) pay to a position of each of ``prompts``, all of which stand before it:
    a mean over layers, heads, the row's tokens and the prompt's positions; rows x prompts. A row without tokens pays none.
    """
    found, alike = torch.zeros(len(rows), len(prompts)), defaultdict(list)
    for number, row in enumerate(rows):
        alike[tuple(row.tolist())].append(number)
    usual, before = network.config._attn_implementation, torch.cat(list(prompts))
    try:
        network.set_attn_implementation("eager")  # the others do not say what they attended to
        for ids, numbers in alike.items():
            if ids:
                embedded = stitched(network, torch.tensor([ids], device=network.device), before)
                layers = network.get_decoder()(inputs_embeds=embedded, use_cache=False, output_attentions=True).attentions
                means = [layer[0, :, len(before) :, : len(before)].float().mean((0, 1)) for layer in layers]
                parts = torch.stack(means).mean(0).split([len(prompt) for prompt in prompts])
                found[numbers] = torch.stack([part.mean() for part in parts]).cpu()
    finally:
        network.set_attn_implementation(usual)
    return found


class Idp(Method):
    """A hard choice, without a network that learns it, as in the paper."""

    name, label, colour = "idp", "compressed + a prompt for each input", "#a61e4d"

    def settings(self, study, own) -> IdpSpec:
        """``lengths``, a quarter, a half and the whole of the soft prompt's unless said, and ``reads``; it learns as the soft prompt does."""
        shared = study.soft_prompt
        whole = shared.prompt_tokens
        lengths = list(dict.fromkeys(max(1, whole * part // 4) for part in (1, 2, 4)))
        usual = {"prompt_tokens": whole, "initialisation": shared.initialisation, "lengths": lengths}
        return asked(IdpSpec, study, self.name, own, shared.training.learning_rate, **usual)

    def learn(self, network, text, settings: IdpSpec, teacher, seed, *, checkpoint, label, **_) -> Pool:
        """One prompt after the other. The curve is the last one's; tokens and seconds are those of all."""
        places = [checkpoint.with_stem(f"{checkpoint.stem}-{length}") for length in settings.lengths]
        prompts = []
        for length, place in zip(settings.lengths, places, strict=True):
            recipe = replace(settings, prompt_tokens=length)
            prompts.append(PROMPT.learn(network, text, recipe, teacher, seed, checkpoint=place, label=f"{label}, {length} vectors"))
        for place in places:
            place.unlink(missing_ok=True)
        spent = {what: sum(getattr(prompt.run, what) for prompt in prompts) for what in ("tokens", "seconds")}
        return Pool([prompt.vectors for prompt in prompts], settings.reads, replace(prompts[-1].run, **spent))

    def load(self, folder, network) -> Pool:
        """Read them back."""
        found = kept.read(folder / kept.FILE)
        reads = int(found.pop("reads"))
        return Pool([found[str(number)] for number in range(len(found))], reads)


METHOD = Idp()
