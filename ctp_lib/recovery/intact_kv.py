"""A control: the uncompressed model's own keys and values of a piece of text, before the compressed one (after IntactKV, Liu et al. 2024)."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from ctp_lib.recovery.base import Method
from ctp_lib.recovery.kv_prefix import KvPrefix, of_tokens, read


class IntactKv(Method):
    """As many tokens as a soft prompt has vectors, from the training text. The paper takes the first tokens of every input."""

    name, label, colour, control, needs_dense = "intact_kv", "compressed + intact keys and values", "#a5d8ff", True, True

    def learn(self, network: PreTrainedModel, text, settings, teacher, seed, **_) -> KvPrefix:
        """Nothing is learned."""
        whole = teacher.network if teacher else network
        return KvPrefix(of_tokens(whole, text.batch(0)[0, : settings.prompt_tokens]), trained=False)

    def load(self, folder: Path, network: PreTrainedModel) -> KvPrefix:
        """Read it back."""
        return KvPrefix(read(folder, network), trained=False)


METHOD = IntactKv()
