"""A control: as many tokens of real text as the study's prompts have vectors. It shows what any text before the input does."""

from ctp_lib.recovery.soft_prompt import TokenPrefix
from ctp_lib.settings.learning import SoftPromptSpec
from ctp_lib.settings.spec import require


class TextPrefix(TokenPrefix):
    """Of the training split, so none of it is scored."""

    name, label, colour, control = "text_prefix", "compressed + real text", "#868e96", True

    def settings(self, study, own) -> SoftPromptSpec:
        """A soft prompt's, of no more vectors than a step of its training has tokens."""
        found = super().settings(study, own)
        tokens = found.training.batch_windows * study.evaluation.window
        field, most = f"methods.{self.name}: soft_prompt.prompt_tokens", f"{tokens} at most, the tokens of a training step"
        require(found.prompt_tokens <= tokens, field, found.prompt_tokens, most)
        return found

    def ids(self, network, text, settings, seed) -> list[int]:
        """The first tokens of a training with ``seed``."""
        return text.batch(0).flatten()[: settings.prompt_tokens].tolist()


METHOD = TextPrefix()
