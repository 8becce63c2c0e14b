"""A control: one number that all logits are multiplied by, the inverse of a temperature (Guo et al. 2017, section 4.2)."""

import torch

from ctp_lib.recovery.output_head import OutputHead


class Temperature(OutputHead):
    """One parameter."""

    name, label, colour = "temperature", "compressed + temperature", "#5c940d"

    def start(self, head) -> dict[str, torch.Tensor]:
        """One."""
        return {"scale": torch.ones(())}


METHOD = Temperature()
