"""Given tokens before the input: nothing is learned. Written prompts are such, and so are the controls that a learned prompt has to beat."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ctp_lib.model.divergence import Teacher
from ctp_lib.recovery.base import Method
from ctp_lib.recovery.soft_prompt import Prompt, read
from ctp_lib.text.selection import TrainingText


class TokenPrefix(Method):
    """The embeddings of some tokens of the vocabulary."""

    @abstractmethod
    def ids(self, network: PreTrainedModel, text: TrainingText, settings: Any, seed: int) -> Sequence[int]:
        """Which tokens."""

    def learn(
        self, network: PreTrainedModel, text: TrainingText, settings: Any, teacher: Teacher | None, seed: int, **_: Any
    ) -> Prompt:
        """Their embeddings in ``network``."""
        ids = torch.tensor(list(self.ids(network, text, settings, seed)), device=network.device)
        return Prompt(network.get_input_embeddings()(ids), trained=False)

    def load(self, folder: Path, network: PreTrainedModel) -> Prompt:
        """Their vectors, as they were embedded."""
        return Prompt(read(folder, network), trained=False)
