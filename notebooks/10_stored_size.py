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
# # What it takes to store, and what that buys
#
# Claim C4: pruning half of the weights and rounding the rest to 4 bits makes the model 8 times smaller, and a prompt
# recovers it as it does the others. But 4 bits at 50 % sparsity need a mask, scales and zero points as well, and a prompt has bytes of its own.
# Here every level stands at the size that its file really has.

# %% tags=["parameters"]
model = "reference"

# %%
from ctp_lib import claims, figures, places, results, study

settings = study.load()
cells = results.read_cells(settings, model, "compression", "soft_prompt")
recovery = claims.recovery_table(cells, evaluated_on=settings.soft_prompt.corpus)

# %% [markdown]
# ## Bits a weight, and bytes all told
# `times_smaller` compares the compressed matrices with 16 bits a weight; embeddings and norms are not compressed, and count in `megabytes`.

# %%
table = claims.size_table(cells, recovery)
results.write_table(table.set_index("level"), places.table_path(settings, "stored_size", model))
table.round(3)

# %%
figures.save(figures.stored_size(table), places.figures_folder(settings, model), "7_stored_size")

# %% [markdown]
# ## Verdict on C4

# %%
verdict = claims.joint(table, recovery)
verdict.write(settings, model)
print(verdict)
