"""The paper's first observation (section 3.1): a sentence before the input that tells the model that its weights contain errors."""

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

COLOUR = "#7048e8"


def vectors(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, like: str | None = None) -> Tensor:
    """The embeddings of a written prompt and the blank line after it, n x hidden; it is cut or repeated to the length of ``like``."""
    ids, ending = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text, "\n\n"))
    if like is not None:
        length = len(tokenizer(like, add_special_tokens=False)["input_ids"])
        ids = (ids * -(-length // len(ids)))[:length]
    return model.get_input_embeddings()(torch.tensor(ids + ending, device=model.device)).detach()
