"""A control: the uncompressed model's own keys and values of a piece of text, before the compressed one (after IntactKV, Liu et al. 2024)."""

from ctp_lib.recovery.base import Method
from ctp_lib.recovery.kv_prefix import KvPrefix, of_tokens, read
from ctp_lib.settings.learning import SoftPromptSpec
from ctp_lib.settings.spec import require


class IntactKv(Method):
    """As many tokens as a soft prompt has vectors, from the training text. The paper takes the first tokens of every input."""

    name, label, colour, control, needs_dense = "intact_kv", "compressed + intact keys and values", "#a5d8ff", True, True

    def settings(self, study, own) -> SoftPromptSpec:
        """A soft prompt's, of no more vectors than a window has tokens."""
        found, window = super().settings(study, own), study.evaluation.window
        field, most = f"methods.{self.name}: soft_prompt.prompt_tokens", f"evaluation.window ({window}) at most"
        require(found.prompt_tokens <= window, field, found.prompt_tokens, most)
        return found

    def learn(self, network, text, settings, teacher, seed, **_) -> KvPrefix:
        """Nothing is learned."""
        whole = teacher.network if teacher else network
        return KvPrefix(of_tokens(whole, text.batch(0)[0, : settings.prompt_tokens]), trained=False)

    def load(self, folder, network) -> KvPrefix:
        """Read it back."""
        return KvPrefix(read(folder, network), trained=False)


METHOD = IntactKv()
