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
# # How small each level is, and how good
#
# How small is a compressed model really? Claim C4: pruning half of the weights and rounding the rest to 4 bits makes the model 8 times smaller,
# and a prompt repairs it as well as other levels. But such a model also needs a mask, scales and zero points, and a prompt has bytes of its
# own. Here we count, bit by bit, the size of every level when packed. The uncompressed model counts with 16 bits per weight, also where the
# file that it came in has fewer, as that of `smollm2` (5 bits).
#
# [With its tables and figures](../results/recorded/embedded/runs/13_stored_size/reference.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"

# %%
from ctp_lib.claims import c2_c3_recovery, c7_cross_task, seen, style
from ctp_lib.claims import c4_stored_size as claim
from ctp_lib.compression import reached
from ctp_lib.recovery import scores
from ctp_lib.results import cells, curves, tables
from ctp_lib.settings import paths, study

settings = study.load()
scored = scores.of_study(settings, model, [claim.PROMPT.name])
asked = c7_cross_task.table(cells.read(paths.question(settings, "cross_task", model))["tasks"])
levels = {str(level): reached.obtain(settings, model, level)["reached"] for level in settings.levels}
recovery = c2_c3_recovery.table(scored, levels, evaluated_on=settings.soft_prompt.corpus)

# %% [markdown]
# ## Bits per weight, and total bytes
# `times_smaller` compares the compressed matrices with 16 bits per weight. `megabytes` also counts embeddings and norms, which are not
# compressed.

# %%
table = claim.table(levels, recovery, max(row["bytes_added"] for row in cells.rows(scored)))
tables.write(table.set_index("level"), paths.table(settings, "stored_size", model))
seen.readable(table).style.hide(axis="index")

# %%
style.save(claim.figure(table, settings.model(model).as_it_came), paths.figures(settings, model), "7_stored_size")

# %%
seen.sizes(table)

# %% [markdown]
# ## Verdict on C4

# %%
unfinished = curves.still_learning(settings, model, claim.PROMPT.name, levels)
verdict = claim.verdict(table, recovery, asked, settings.margins, unfinished)
verdict.write(settings, model)
verdict
