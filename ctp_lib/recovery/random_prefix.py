"""A control: as many tokens as the study's prompts have vectors, drawn from the vocabulary."""

import torch

from ctp_lib.recovery.soft_prompt import TokenPrefix


class RandomPrefix(TokenPrefix):
    """Where a prompt with ``initialisation: sampled`` starts."""

    name, label, colour, control = "random_prefix", "compressed + random tokens", "#adb5bd", True

    def ids(self, network, text, settings, seed) -> list[int]:
        """Each at most once."""
        size = network.get_input_embeddings().num_embeddings
        return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[: settings.prompt_tokens].tolist()


METHOD = RandomPrefix()
