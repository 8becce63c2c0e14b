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
# Claim C2 of the paper: a few learned vectors before the input lower the compressed model's perplexity at every level. The vectors
# are learned on a general corpus, through the frozen compressed model. For LLaMA-7B at 3 bits the paper reports 10.74 on C4 without a
# prompt and 7.48 with one (uncompressed: 7.59).
#
# This notebook learns the prompt for `model` at `level` on the broad corpus. It keeps the step that is best on the *validation* split. Any
# other `method` in `ctp_lib/recovery` can be learned in the same way, from the same text. Notebook 04 scores those in the study's `methods`
# on the test split.
#
# [With its tables and figures](../results/recorded/embedded/runs/03_soft_prompt/reference-s75-soft_prompt.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"
level = "75%"
method = "soft_prompt"

# %%
from dataclasses import asdict

import pandas as pd

from ctp_lib.recovery.bench import Bench
from ctp_lib.settings import study
from ctp_lib.settings.levels import Level

settings = study.load()
bench = Bench(settings, model, Level.parse(level))
pd.json_normalize(asdict(bench.lesson(method, settings.soft_prompt.seeds[0]).settings)).T.set_axis([method], axis=1)

# %% [markdown]
# ## Learn
# Only the prompt gets a gradient. The model's weights are frozen. The recipe chooses the loss: `paper` uses next-token NLL, `distilled` uses
# the divergence from the uncompressed model's predictions. On the small model, distillation needed a tenth of the tokens. The uncompressed
# model has no better model to learn from, so its own prompt always uses next-token NLL.
#
# The seed chooses the tokens that the prompt starts from, and the order of the text. Each prompt is saved at once as a PEFT adapter, which
# `PeftModel.from_pretrained` opens. If a prompt was learned before, it is loaded.

# %%
learned = {seed: bench.learned(method, seed) for seed in settings.soft_prompt.seeds}
pd.DataFrame({seed: {"parameters": found.parameters, "bytes": found.bytes} for seed, found in learned.items()}).rename_axis("seed", axis=1)

# %% [markdown]
# ## How it learned
# Validation NLL while training, one line per seed.

# %%
curves = [pd.DataFrame(found.run.curve).assign(seed=seed) for seed, found in learned.items() if found.run]
if curves:
    by_seed = pd.concat(curves).pivot(index="tokens", columns="seed", values="validation_nll")
    by_seed.plot(xlabel="tokens seen", ylabel="validation NLL (nats per token)")
