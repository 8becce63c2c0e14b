"""A control: one end-of-text token before the input, a place for attention to go (Xiao et al. 2023, attention sinks)."""

from ctp_lib.recovery.soft_prompt import TokenPrefix


class Sink(TokenPrefix):
    """The model's own end-of-sequence token."""

    name, label, colour, control = "sink", "compressed + one end-of-text token", "#ced4da", True

    def ids(self, network, text, settings, seed) -> list[int]:
        """One."""
        return [text.tokenizer.eos_token_id]


METHOD = Sink()
