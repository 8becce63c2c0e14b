"""Learned keys and values before the input, in every layer: prefix tuning (Li & Liang 2021, section 4).

They start as the keys and values of a training text, as in Cartridges (Eyuboglu et al. 2025, section 3.2), where the paper has a
reparametrisation. The file is a PEFT adapter.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from ctp_lib.evaluation.subject import Subject
from ctp_lib.model.likelihood import PromptCache, after_prompt
from ctp_lib.recovery import soft_prompt
from ctp_lib.recovery.base import Method
from ctp_lib.recovery.learning import asked, learn
from ctp_lib.recovery.soft_prompt import Prompt
from ctp_lib.settings.learning import TunedSpec
from ctp_lib.settings.spec import SPEC, Count, require


@dataclass(**SPEC, kw_only=True)
class KvPrefixSpec(TunedSpec):
    """How many positions, and how they are learned."""

    tokens: Count


class KvPrefix(Prompt):
    """``vectors``: of every position its key and value of layer 0, layer 1 and so on, n x (layers x 2 x heads x width), fp32: PEFT's order."""

    @contextmanager
    def on(self, network) -> Iterator[Subject]:
        """The network behind them."""
        yield Subject(network, unflattened(self.vectors, network))

    def save(self, folder, base, network) -> None:
        """Write a PEFT ``PREFIX_TUNING`` adapter."""
        from peft import PrefixTuningConfig

        layers = shapes(network)
        sizes = {"token_dim": layers[0].numel(), "num_attention_heads": layers[0][0], "num_layers": len(layers)}
        self._as_adapter(folder, base, PrefixTuningConfig, **sizes)


class PrefixTuning(Method):
    """By AdamW, at the step that is best on validation."""

    name, label, colour = "kv_prefix", "compressed + key-value prefix", "#c2255c"

    def settings(self, study, own) -> KvPrefixSpec:
        """``tokens``, 8 unless said; of ``training`` what differs from the soft prompt's, the learning rate 0.01 unless said."""
        found, window = asked(KvPrefixSpec, study, self.name, own, 1e-2, tokens=8), study.evaluation.window
        require(found.tokens <= window, f"methods.{self.name}.tokens", found.tokens, f"evaluation.window ({window}) at most")
        return found

    def learn(self, network, text, settings: KvPrefixSpec, teacher, seed, *, checkpoint, label, **_) -> KvPrefix:
        """From the keys and values of the first tokens of a training window, the ``seed``'s first."""
        module = nn.Module()
        module.flat = nn.Parameter(of_tokens(network, text.batch(0)[0, : settings.tokens]))
        given = (module, network, text, settings, teacher, seed)
        run = learn(*given, prompt=lambda: unflattened(module.flat, network), checkpoint=checkpoint, label=label)
        return KvPrefix(module.flat, run)

    def load(self, folder, network) -> KvPrefix:
        """Read an adapter back. Raises :class:`ParameterError` when it is damaged or of another shape than ``network``'s."""
        return KvPrefix(read(folder, network))


def shapes(network: PreTrainedModel) -> list[torch.Size]:
    """Heads and width of the keys of every layer; keys and values have the same."""
    found = after_prompt(network, network.get_input_embeddings().weight[:1].detach().float())
    return [torch.Size((layer.keys.shape[1], layer.keys.shape[3])) for layer in found.layers]


def of_tokens(network: PreTrainedModel, ids: Tensor) -> Tensor:
    """The keys and values that ``network`` has of a text by itself (ids: n), flat."""
    with torch.no_grad():
        cache = after_prompt(network, network.get_input_embeddings()(ids.to(network.device)))
        parts = [part[0].transpose(0, 1).flatten(1) for layer in cache.layers for part in (layer.keys, layer.values)]
        return torch.cat(parts, 1).float().clone()


def unflattened(flat: Tensor, network: PreTrainedModel) -> Cache:
    """``flat`` as one row of keys and values, with its gradient."""
    some = network.get_input_embeddings().weight[:1].detach().float()
    cache, first = PromptCache(network, some.expand(len(flat), -1)), 0  # as long, since a sliding window counts
    for layer in cache.layers:
        heads, width = layer.keys.shape[1], layer.keys.shape[3]
        keys, values = (
            flat[:, at : at + heads * width].view(1, len(flat), heads, width).transpose(1, 2).to(layer.keys)
            for at in (first, first + heads * width)
        )
        layer.keys, layer.values, first = keys, values, first + 2 * heads * width
    return cache


def read(folder: Path, network: PreTrainedModel) -> Tensor:
    """What :meth:`KvPrefix.save` wrote, flat."""
    return soft_prompt.read(folder, network, 2 * sum(shape.numel() for shape in shapes(network)))


METHOD = PrefixTuning()
