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
# This notebook does one cell of that table: it compresses `model` to `level`, looks at what was really reached in every layer,
# saves the result, and only then measures its perplexity on every corpus.

# %% tags=["parameters"]
model = "reference"
level = "3bit"

# %%
import pandas as pd

from ctp_lib import experiments, models, preflight, study, texts
from ctp_lib.compression import files, recipes
from ctp_lib.results import measured
from ctp_lib.study import Level

settings = study.load()
spec = settings.model(model)
goal = Level.parse(level)
tokenizer = models.load_tokenizer(spec)
preflight.check(settings, model, ["compress", "evaluate"])
network = models.load_model(spec, on="cpu")  # where there is a GPU, layers visit it one by one

# %% [markdown]
# ## Calibration
# Random windows of the training split of the broad corpus. The solver sees these inputs and nothing else.

# %%
calibration = texts.calibration_windows(settings, tokenizer)
print(tokenizer.decode(calibration[0][:60]))

# %% [markdown]
# ## Compress, save

# %%
with measured("compress", tokens=calibration.numel()) as cost:
    recipes.compress(network, goal, calibration, settings.compression)
manifest = files.save(settings, model, goal, network, tokenizer)
costs = [cost] if manifest["calibration"] else []  # an uncompressed model costs nothing to make
layers = pd.DataFrame(manifest["layers"])
layers.describe().loc[["min", "mean", "max"], ["sparsity", "distinct_values"]]

# %% [markdown]
# Bits a weight when packed, all told: codes, mask, scales and zero points.

# %%
print(
    f"{level}: {manifest['bits_per_weight']:.3f} bits a weight, {16 / manifest['bits_per_weight']:.2f} times smaller than 16 bits"
)

# %% [markdown]
# ## Measure
# From the files just saved. `ppl_released` is what the paper's code would print;
# without a prompt it is the same figure.

# %%
network = files.load(settings, model, goal)
with measured("evaluate") as evaluation:
    rows = experiments.score(network, texts.scored_texts(settings, tokenizer), method="none", seed=settings.seed)
evaluation.tokens = sum(row["tokens_scored"] for row in rows)
experiments.write(settings, "compression", model, goal, rows=rows, costs=[*costs, evaluation], manifest=manifest)
pd.DataFrame(rows)[["evaluated_on", "split", "ppl", "ppl_released", "bits_per_byte", "windows", "tokens_scored"]]
