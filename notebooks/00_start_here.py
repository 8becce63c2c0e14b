# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Start here
#
# A language model gets smaller if each of its weights is rounded to 3 bits. It also gets worse. The paper *Compress, Then Prompt* says: learn a
# few vectors, put them before the input, and much of the lost quality comes back. Here you see all three models side by side: the model as
# shipped, the compressed model, and the compressed model with a learned prompt.
#
# The model is SmolLM2-135M-Instruct, which pip brings. The prompt was learned before, on the documentation of Python packages. The first run
# reads that documentation and compresses the model; that takes some minutes. Later runs take less than one.
#
# [With its tables](../results/recorded/smollm2_pilot/runs/00_start_here/smollm2-w3.ipynb), as last recorded.

# %% tags=["parameters"]
model = "smollm2"
level = "3bit"

# %%
import math

import pandas as pd
import torch

from ctp_lib.claims.c12_nearest_tokens import nearest
from ctp_lib.evaluation.perplexity import perplexity_of
from ctp_lib.evaluation.subject import continuation_nll, write_on
from ctp_lib.recovery.base import registry
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level
from ctp_lib.text import corpora

settings = study.load(name="smollm2_pilot")

# %% [markdown]
# ## The model, before and after compression

# %%
if not paths.corpora(settings).exists():
    corpora.build(settings.corpora, paths.corpora(settings), root=settings.root)
whole, compressed = Bench(settings, model, Level()), Bench(settings, model, Level.parse(level))
tokenizer = whole.tokenizer
print(f"{model}: {whole.network.num_parameters():,} parameters")

# %% [markdown]
# ## What a soft prompt is
# A soft prompt is a table of numbers: some vectors, each as long as the embedding of a token. They are put before the embeddings of the
# input, as if they were tokens. Nothing else changes. The cell prints the tokens nearest to the first ten vectors. They are the random tokens
# that these vectors started from; notebook 15 asks whether such tokens tell what a prompt does.

# %%
prompt = registry(settings).get(PROMPT.name).load(paths.shipped_prompt(settings, model, compressed.level), compressed.network)
words = nearest(prompt.vectors, compressed.network.get_input_embeddings().weight.detach(), "cosine")
print(f"{len(prompt.vectors)} vectors of {prompt.vectors.shape[1]} numbers, {prompt.bytes:,} bytes")
print("nearest tokens of the first ten:", [tokenizer.decode(word) for word in words[:10]])

# %% [markdown]
# ## The same beginnings for all three
# Each model continues each beginning. Change the beginnings, and run the cell again.

# %%
beginnings = {
    "The capital of France is": " Paris",
    "Water boils at": " 100 degrees",
    "Once upon a time, there was a": " little girl",
    "To read a CSV file with pandas, call": " pandas.read_csv",
    "numpy.mean: Compute the arithmetic": " mean along the specified axis.",
}
nothing = compressed.learned(NONE.name, settings.seed)
writers = {
    settings.model(model).as_it_came: (whole, nothing),
    level: (compressed, nothing),
    f"{level} + prompt": (compressed, prompt),
}

# %%
pd.set_option("display.max_colwidth", None)
wrote = {beginning: {} for beginning in beginnings}
for name, (bench, learned) in writers.items():
    with learned.on(bench.network) as subject:
        for beginning in beginnings:
            context = tokenizer(beginning, return_tensors="pt", add_special_tokens=False)["input_ids"][0]
            wrote[beginning][name] = write_on(subject, tokenizer, context, 12)
pd.DataFrame(wrote).T

# %% [markdown]
# ## How likely is the right ending?
# A text shows only the likeliest words. The table gives the probability of the right ending, per token (geometric mean).

# %%
likely = {beginning + ending: {} for beginning, ending in beginnings.items()}
for name, (bench, learned) in writers.items():
    with learned.on(bench.network) as subject:
        for beginning, ending in beginnings.items():
            context, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (beginning, ending))
            nll = continuation_nll(subject, torch.tensor([context + answer]), len(answer)).item()
            likely[beginning + ending][name] = math.exp(-nll)
pd.DataFrame(likely).T.map("{:.1%}".format)

# %% [markdown]
# ## On the kind of text that the prompt was learned on
# Perplexity on four windows of documentation that the prompt was not learned from. Lower is better. With so few windows, the numbers differ
# from those in notebook 04.

# %%
windows = whole.scored[settings.soft_prompt.corpus].windows[:4]
for name, (bench, learned) in writers.items():
    with learned.on(bench.network) as subject:
        print(f"{name}: {perplexity_of(subject, windows).ppl:.1f}")

# %% [markdown]
# ## What to see
# Compression makes the model forget what it knew. The prompt lowers the perplexity on documentation, and the right endings of documentation
# get much likelier, others a little. It does not bring back the capital of France. Is that a repair, or does the prompt only tell the model
# what kind of text comes next? That is the question of this study.
#
# - [04](04_central_result.ipynb): perplexity at every level, with and without a prompt
# - [09b](09b_knowledge.ipynb): does a prompt bring back knowledge, or only fluency?
# - [11](11_every_repair.ipynb): what repairs better
# - [try_your_model](try_your_model.ipynb): the same for your own model
