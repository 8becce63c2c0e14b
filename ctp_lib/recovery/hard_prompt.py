"""The paper's first observation (section 3.1): a sentence before the input that tells the model that its weights contain errors."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.recovery.soft_prompt import TokenPrefix
from ctp_lib.settings.spec import SPEC
from ctp_lib.settings.study import Study, with_settings


@dataclass(**SPEC)
class Sentence:
    """``text`` stands before the input; with ``like``, a control: cut or repeated to as many tokens as that has."""

    text: str
    like: str | None = None


class HardPrompt(TokenPrefix):
    """The sentence is the first of ``hard_prompt.texts`` unless another is named."""

    name, label, colour, trains = "hard_prompt", "compressed + hard prompt", "#7048e8", False

    def settings(self, study: Study, own: Mapping[str, Any]) -> Sentence:
        """``text``, and ``like`` if it is a control."""
        usual = {"text": next(iter(study.hard_prompt.texts.values()))}
        return with_settings(Sentence, usual | dict(own), f"methods.{self.name}.")

    def ids(self, network, text, settings: Sentence, seed) -> list[int]:
        """Those of the sentence and the blank line after it."""
        return written(text.tokenizer, settings.text, settings.like)


def vectors(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, like: str | None = None) -> Tensor:
    """The embeddings of a written prompt, n x hidden."""
    return model.get_input_embeddings()(torch.tensor(written(tokenizer, text, like), device=model.device)).detach()


def written(tokenizer: PreTrainedTokenizerBase, text: str, like: str | None = None) -> list[int]:
    """The tokens of a written prompt and the blank line after it; cut or repeated to the length of ``like``."""
    ids, ending = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text, "\n\n"))
    if like is not None:
        length = len(tokenizer(like, add_special_tokens=False)["input_ids"])
        ids = (ids * -(-length // len(ids)))[:length]
    return ids + ending


METHOD = HardPrompt()
