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
# # Compression: one model, one level
#
# The paper compresses with GPTQ (4, 3, 2 bits), SparseGPT (50, 62.5, 75 %) and both in one pass, calibrated on C4.
# For LLaMA-7B it reports WikiText-2 perplexity 6.33 uncompressed and 6.92, 9.45 and 2692.81 at 4, 3 and 2 bits.
#
# What does compression do to the weights? This notebook compresses `model` to `level`, saves the result, and checks what each layer really
# reached. Notebook 04 scores it.
# A level may name another method: `rtn:3bit`, `wanda:50%` or `magnitude:2:4`. `2bit/g64` quantises in groups of 64 columns.
#
# [With its tables and figures](../results/recorded/embedded/runs/02_compression/reference-w3.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"
level = "3bit"

# %%
import pandas as pd

from ctp_lib.compression import base, reached, saved
from ctp_lib.model import loading
from ctp_lib.settings import study
from ctp_lib.settings.levels import Level
from ctp_lib.text import selection

settings = study.load()
goal = Level.parse(level)
method = base.method_for(goal, base.registry(settings))

# %% [markdown]
# ## Calibration
# Random windows of the training split of the broad corpus. The method sees these inputs and nothing else.

# %%
tokenizer = loading.load_tokenizer(settings.model(model))
calibration = selection.calibration_windows(settings, tokenizer)
print(tokenizer.decode(calibration[0][:60]))

# %% [markdown]
# ## Compress, save
# A model that was compressed before, by the same code, text and settings, is read from disk. Its manifest says how it was made.

# %%
manifest = saved.make(settings, model, goal)
print(f"{model} at {level} by {method.label}, from {manifest['base']['source']}")

# %% [markdown]
# ## What was reached
# The share of zeros, and the number of distinct values in a row, over all matrices. Rounding to b bits leaves at most 2^b values in a row (in
# groups of columns, in each group). Of a level that is only pruned, the number of values says nothing.

# %%
found = reached.obtain(settings, model, goal)["reached"]
layers = pd.DataFrame(found["layers"])
layers.describe().loc[["min", "mean", "max"], ["sparsity", "distinct_values"]].round(3)

# %% [markdown]
# Bits per weight after packing. We count codes, mask, scales and zero points.

# %%
print(f"{level}: {found['bits_per_weight']:.3f} bits per weight, {16 / found['bits_per_weight']:.2f} times smaller than 16 bits")
