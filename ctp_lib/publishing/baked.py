"""A learned prompt baked into its model: an ordinary folder that any server runs, and that puts the prompt before every text by itself.

The n vectors become n rows more of the embedding, ``<prompt_0>`` and so on, which the tokenizer writes before every text and every chat. The
prompt comes first of all, as it was learned: a tokenizer that begins with a special token no longer does so.
"""

from pathlib import Path

import torch
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.compression import saved
from ctp_lib.model import loading
from ctp_lib.publishing import adapter, card
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.recovery.soft_prompt import read
from ctp_lib.settings import models, paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study

USE = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = (kind.from_pretrained("path/to/this/folder") for kind in (AutoModelForCausalLM, AutoTokenizer))
```
The tokenizer puts the prompt's {tokens} tokens before every text, so nothing else is to be done. The prompt comes first, and no
beginning-of-sequence token comes before it, as it was learned. The model never writes these tokens."""


def model(settings: Study, name: str, level: Level, seed: int) -> Path:
    """Write ``name`` at ``level`` with its prompt of ``seed`` inside, as a hub-ready folder, which is returned.

    Raises :class:`ParameterError` when that prompt was not learned yet.
    """
    rows, protocol = adapter.described(settings, name, level, seed)
    network, tokenizer = saved.load(settings, name, level), loading.load_tokenizer(settings.model(name))
    vectors = read(paths.learned(settings, name, level, PROMPT.name, seed), network)
    bake(network, tokenizer, vectors)
    goal = settings.root / "published" / f"{models.slug(name)}-{level.slug}-baked-{seed}"
    about = card.About(settings, name, level, f"{name} at {level}, with a learned prompt inside", "transformers", protocol)
    with paths.replacing(goal) as folder:
        folder.mkdir()
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        card.write(folder, about, rows, USE.format(tokens=len(vectors)))
    return goal


@torch.no_grad()
def bake(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, vectors: torch.Tensor) -> None:
    """Put ``vectors`` (n x hidden) into ``network`` and ``tokenizer``, in place.

    Rows of an output head of its own are zero for the new tokens, so that they change the probabilities of the others hardly at all.
    """
    embed, head = network.get_input_embeddings(), network.get_output_embeddings()
    old, width = embed.weight.shape
    scale = embed(torch.zeros(1, dtype=torch.int64)).norm() / embed.weight[0].norm()  # some models scale on the way in
    names = [f"<prompt_{place}>" for place in range(len(vectors))]
    unused = old - len(tokenizer)  # rows that no token has: named, so that the new tokens stand behind them
    tokenizer.add_tokens([AddedToken(f"<unused_row_{row}>", special=True) for row in range(unused)])
    tokenizer.add_tokens([AddedToken(name, special=True) for name in names])
    bigger = nn.Embedding(old + len(vectors), width, dtype=embed.weight.dtype)
    bigger.weight.copy_(torch.cat([embed.weight, (vectors / scale).to(embed.weight)]))
    linear = nn.Linear(width, old + len(vectors), bias=head.bias is not None, dtype=head.weight.dtype)
    linear.weight.copy_(torch.cat([head.weight, torch.zeros_like(vectors, dtype=head.weight.dtype)]))
    if head.bias is not None:
        linear.bias.copy_(torch.cat([head.bias, torch.zeros(len(vectors), dtype=head.bias.dtype)]))
    embed.weight, embed.num_embeddings = bigger.weight, len(bigger.weight)
    network.set_output_embeddings(linear)
    for config in (network.config, network.config.get_text_config()):
        config.tie_word_embeddings, config.vocab_size = False, len(bigger.weight)
    ids = tokenizer.convert_tokens_to_ids(names)
    network.generation_config.suppress_tokens = ids
    before = " ".join(names)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{before} $A", pair=f"{before} $A $B", special_tokens=list(zip(names, ids, strict=True))
    )
    if tokenizer.chat_template:
        tokenizer.chat_template = "".join(names) + tokenizer.chat_template
