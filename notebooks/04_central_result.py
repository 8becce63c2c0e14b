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
# # The central result: what a learned prompt gives back
#
# How much of its lost quality does a compressed model get back by a soft prompt? Claim C2: a prompt learned on the compressed model lowers its
# perplexity at every level. The paper shows it for LLaMA-7B on C4: at 3 bits 10.74 falls to 7.48, below the uncompressed 7.59 (claim C3).
#
# Keep two things in mind. First, the perplexities here are *exact*: the same real tokens are scored with and without a prompt. The released
# code also counts the prompt's positions when it averages the loss. That makes every prompt look better, even one that learned nothing. The
# table gives the released code's figure as `ppl_released`.
#
# Second, the uncompressed model gets a learned prompt too. If a prompt helps that one just as much, it is no repair.
#
# [With its tables and figures](../results/recorded/embedded/runs/04_central_result/reference.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"

# %%
import pandas as pd

from ctp_lib.claims import c2_c3_recovery as claim
from ctp_lib.claims import seen, style
from ctp_lib.claims.estimate import flat
from ctp_lib.compression import reached
from ctp_lib.recovery import scores
from ctp_lib.results import cells, curves, tables
from ctp_lib.settings import paths, study

settings = study.load()
broad, goal = settings.soft_prompt.corpus, paths.figures(settings, model)
scored = scores.of_study(settings, model)
levels = {str(level): reached.obtain(settings, model, level)["reached"] for level in settings.levels}

# %% [markdown]
# ## Figure 1

# %%
perplexity = pd.DataFrame(cells.rows(scored))
style.save(claim.perplexity_by_level(perplexity, evaluated_on=broad, settings=settings), goal, "1_perplexity_by_level")

# %% [markdown]
# The table gives the numbers behind the figure.
#
# - `ppl_none`, `ppl`: perplexity without and with what was learned, the latter a mean over seeds
# - `recovered`: the share of the lost *perplexity* that is back, (none - prompt) / (none - full); below 0 the prompt does harm. The verdict
#   gives the share of the lost *NLL*, which is lower at strong compression.
# - `cost`: how much compression raises the NLL on the same windows, in nats per token; `gain`: how much the prompt lowers it
# - `above_full`: the gain over the uncompressed model; below 0 the prompted model is worse
# - `nearer`: how much the divergence from the uncompressed model falls
#
# In brackets: the 95 % interval of that row alone; one seed of something learned gives none. The verdict's intervals hold for all rows
# together, so they are wider.

# %%
found = {method: claim.table(scored, levels, evaluated_on=broad, method=method) for method in settings.methods}
summary = found[claim.PROMPT.name]
tables.write(flat(summary), paths.table(settings, "recovery", model))
shown = ["ppl_none", "ppl", "ppl_released", "recovered", "cost", "gain", "above_full", "nearer"]
seen.readable(pd.concat({method: table[shown] for method, table in found.items()}, names=["method"]))

# %%
seen.recovery(summary)

# %% [markdown]
# ## How the prompts learned
# Validation NLL during training. Each line is one seed; the dot marks the step that was kept.

# %%
learning = pd.DataFrame(curves.of_study(settings, model, [claim.PROMPT.name], settings.levels))
style.save(claim.curves_by_level(learning), goal, "s1_training_curves")

# %% [markdown]
# ## Verdicts on C2 and C3, and on repair
# A level does not vote if compression has no clear cost there. A prompt that was still learning may support the claim, but not contradict it.

# %%
unfinished = curves.still_learning(settings, model, claim.PROMPT.name, levels)
verdicts = claim.verdicts(summary, settings.margins.nats, unfinished)
for verdict in verdicts:
    verdict.write(settings, model)
seen.Said("\n\n".join(verdict.page() for verdict in verdicts))
