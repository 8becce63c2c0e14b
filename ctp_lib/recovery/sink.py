"""A control: one end-of-text token before the input, a place for attention to go (Xiao et al. 2023, attention sinks)."""

from typing import Any

from transformers import PreTrainedModel

from ctp_lib.recovery.soft_prompt import TokenPrefix
from ctp_lib.text.selection import TrainingText


class Sink(TokenPrefix):
    """The model's own end-of-sequence token."""

    name, label, colour, control = "sink", "compressed + one end-of-text token", "#ced4da", True

    def ids(self, network: PreTrainedModel, text: TrainingText, settings: Any, seed: int) -> list[int]:
        """One."""
        return [text.tokenizer.eos_token_id]


METHOD = Sink()
