"""llmcompressor's GPTQ, which reports a Hessian that cannot be inverted as soon as it meets one, not when all is done."""

from typing import Any

from llmcompressor.modifiers.gptq import GPTQModifier


class Solver(GPTQModifier):
    """The same solver."""

    def compress_module_list(self, module_list: Any) -> None:
        """Compress the modules of one step, and warn where one was only rounded."""
        super().compress_module_list(module_list)
        self._log_rtn_fallback_summary()
