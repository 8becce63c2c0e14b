"""A control: one number a token of the vocabulary, added to its logit. It can only correct how often each token is predicted."""

import torch

from ctp_lib.recovery.output_head import OutputHead


class OutputBias(OutputHead):
    """As many parameters as there are tokens."""

    name, label, colour = "output_bias", "compressed + output bias", "#495057"

    def start(self, head) -> dict[str, torch.Tensor]:
        """Zeros."""
        return {"bias": torch.zeros(head.out_features)}


METHOD = OutputBias()
