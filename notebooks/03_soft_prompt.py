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
# # A soft prompt for one compressed model
#
# Claim C2 of the paper: a few vectors put before the input, learned through the frozen compressed model on a general
# corpus, lower its perplexity at every level. For LLaMA-7B at 3 bits it reports 10.74 without and 7.48 with a prompt on
# C4 (uncompressed: 7.59).
#
# This notebook learns the prompt for `model` at `level` on the broad corpus and keeps the step that is best on the *validation* split. Any
# other `method` of `ctp_lib/recovery` is learned in the same way, from the same text. Notebook 04 scores all of them on the test split.
#
# [With its tables and figures](../results/recorded/embedded/runs/03_soft_prompt/reference-s75-soft_prompt.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"
level = "75%"
method = "soft_prompt"

# %%
import pandas as pd

from ctp_lib.recovery.bench import Bench
from ctp_lib.settings import study
from ctp_lib.settings.levels import Level

settings = study.load()
bench = Bench(settings, model, Level.parse(level))
lesson = bench.lesson(method)
lesson

# %% [markdown]
# ## Learn
# Only what is learned gets a gradient; the model's weights are frozen. By its recipe a prompt's loss is a mean over the real tokens of their
# plain next-token NLL, as in the paper, or of the divergence from what the uncompressed model predicts. That tells more about each token, so
# a tenth of the tokens is enough. The uncompressed model itself can only learn from the text.
#
# A seed decides where the prompt starts and in which order it sees the text. What was learned is saved at once as a PEFT adapter, which
# `PeftModel.from_pretrained` opens. A seed that was learned before is not learned again.

# %%
learned = {seed: bench.learned(method, seed) for seed in settings.soft_prompt.seeds}
pd.DataFrame({seed: {"parameters": found.parameters, "bytes": found.bytes} for seed, found in learned.items()}).rename_axis("seed", axis=1)

# %% [markdown]
# ## How it learned
# Validation NLL while training, a line a seed.

# %%
curves = [pd.DataFrame(found.run.curve).assign(seed=seed) for seed, found in learned.items() if found.run]
if curves:
    by_seed = pd.concat(curves).pivot(index="tokens", columns="seed", values="validation_nll")
    by_seed.plot(xlabel="tokens seen", ylabel="validation NLL (nats a token)")
