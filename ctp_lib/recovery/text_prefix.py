"""A control: as many tokens of real text as the study's prompts have vectors. It shows what any text before the input does."""

from ctp_lib.recovery.soft_prompt import TokenPrefix


class TextPrefix(TokenPrefix):
    """Of the training split, so none of it is scored."""

    name, label, colour, control = "text_prefix", "compressed + real text", "#868e96", True

    def ids(self, network, text, settings, seed) -> list[int]:
        """The first tokens of a training with ``seed``."""
        return text.batch(0).flatten()[: settings.prompt_tokens].tolist()


METHOD = TextPrefix()
