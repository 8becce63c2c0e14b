"""A learned prompt for a hub: a PEFT adapter, or baked into its model, an ordinary folder that puts the prompt before every text by itself.

For that the n vectors become n rows more of the embedding, ``<prompt_0>`` and so on, which the tokenizer writes before every text and every
chat. The prompt comes first, as it was learned: a tokenizer that begins with a special token no longer does so.
"""

import shutil
from pathlib import Path

import torch
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.compression import saved
from ctp_lib.model import loading
from ctp_lib.publishing.card import Page
from ctp_lib.recovery import scores
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.recovery.soft_prompt import WEIGHTS_FILE, read
from ctp_lib.settings import paths
from ctp_lib.settings.learning import LOSSES
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study

ADAPTER = """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("path/to/the/compressed/model")
model = PeftModel.from_pretrained(model, "path/to/this/folder")
```
It was learned on the base model **compressed to {level}**, and belongs before that one; the files here are the prompt alone."""
BAKED = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = (kind.from_pretrained("path/to/this/folder") for kind in (AutoModelForCausalLM, AutoTokenizer))
```
The tokenizer puts the prompt's {tokens} tokens before every text, so nothing else is to be done. The prompt comes first, and no
beginning-of-sequence token comes before it, as it was learned. The model never writes these tokens."""


def adapter(settings: Study, model: str, level: Level, seed: int) -> Path:
    """Write the prompt of ``model`` at ``level`` learned with ``seed`` as a hub-ready folder, which is returned.

    Raises :class:`ParameterError` when it was not learned yet.
    """
    page = _page(settings, model, level, seed, "prompt", title=f"A soft prompt for {model} at {level}", library="peft", use=ADAPTER)
    source = paths.learned(settings, model, level, PROMPT.name, seed)
    with page.published() as folder:
        for file in ("adapter_config.json", WEIGHTS_FILE):
            shutil.copy(source / file, folder / file)
    return page.goal


def baked(settings: Study, model: str, level: Level, seed: int) -> Path:
    """Write ``model`` at ``level`` with its prompt of ``seed`` inside, as a hub-ready folder, which is returned.

    Raises :class:`ParameterError` when that prompt was not learned yet.
    """
    title = f"{model} at {level}, with a learned prompt inside"
    page = _page(settings, model, level, seed, "baked", title=title, library="transformers", use=BAKED)
    network, tokenizer = saved.load(settings, model, level), loading.load_tokenizer(settings.model(model))
    bake(network, tokenizer, read(paths.learned(settings, model, level, PROMPT.name, seed), network))
    with page.published() as folder:
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return page.goal


def _page(settings: Study, model: str, level: Level, seed: int, kind: str, *, title: str, library: str, use: str) -> Page:
    if not (paths.learned(settings, model, level, PROMPT.name, seed) / WEIGHTS_FILE).exists():
        missing = f"there is no prompt of {model} at {level} with seed {seed}"
        raise ParameterError(f"{missing}; run notebooks/03_soft_prompt with these first")
    cell = scores.obtain(settings, model, level, PROMPT.name)
    rows, recipe = [row for row in cell["perplexity"] if row["seed"] == seed], cell["recipe"]
    training, tokens = recipe["training"], recipe["prompt_tokens"]
    protocol = (
        f"{tokens} vectors, started from {'the first' if recipe['initialisation'] == 'first' else 'random'} entries of the vocabulary, "
        f"learned for {training['steps']} steps of {training['batch_windows']} windows of {rows[0]['window']} tokens of "
        f"*{recipe['corpus']}* (AdamW, learning rate {training['learning_rate']:g}, seed {seed}) by {LOSSES[recipe['loss']]}; the step that "
        "was best on validation."
    )
    opened = use.format(level=level, tokens=tokens)
    return Page(settings, model, level, f"-{kind}-{seed}", title, library, protocol, opened, rows)


@torch.no_grad()
def bake(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, vectors: torch.Tensor) -> None:
    """Put ``vectors`` (n x hidden) into ``network`` and ``tokenizer``, in place.

    Rows of an output head of its own are zero for the new tokens, so that they change the probabilities of the others hardly at all.
    """
    embed, head = network.get_input_embeddings(), network.get_output_embeddings()
    old = len(embed.weight)
    scale = embed(torch.zeros(1, dtype=torch.int64)).norm() / embed.weight[0].norm()  # some models scale on the way in
    names = [f"<prompt_{place}>" for place in range(len(vectors))]
    unused = old - len(tokenizer)  # rows that no token has: named, so that the new tokens stand behind them
    tokenizer.add_tokens([AddedToken(f"<unused_row_{row}>", special=True) for row in range(unused)])
    tokenizer.add_tokens([AddedToken(name, special=True) for name in names])
    for config in (network.config, network.config.get_text_config()):
        config.tie_word_embeddings = False
    head.weight = nn.Parameter(head.weight.clone(), requires_grad=False)  # where it was the embedding's own
    network.resize_token_embeddings(old + len(vectors), mean_resizing=False)
    network.get_input_embeddings().weight[old:] = (vectors / scale).to(embed.weight)
    for of_head in network.get_output_embeddings().parameters():
        of_head[old:] = 0
    ids = tokenizer.convert_tokens_to_ids(names)
    network.generation_config.suppress_tokens = ids
    before = " ".join(names)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{before} $A", pair=f"{before} $A $B", special_tokens=list(zip(names, ids, strict=True))
    )
    if tokenizer.chat_template:
        tokenizer.chat_template = "".join(names) + tokenizer.chat_template
