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
# # A prompt for each input?
#
# IDP (Hoang et al. 2023, later "Do Compressed LLMs Forget Knowledge?") learns several prompts. All of them are put before an input, and the one
# that receives the highest mean attention from the input's tokens is kept. Its authors report 1.24 % better results on average over nine tasks.
# Its reviewers asked for controls: is the choice better than a random one, or than the prompt that is best on validation for all inputs? And
# does the choice also help the *uncompressed* model?
#
# Here the pool has all prompts that the study learned and that fit together into the model's context: those of this level, and of other
# lengths, corpora and levels. The first tokens of an input choose its prompt, and only the tokens after them are scored. The oracle takes the
# prompt that is best for each input; no other choice from this pool can beat it.
#
# [With its tables and figures](../results/recorded/embedded/runs/12_a_prompt_for_each_input/reference-s75.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"
level = "75%"

# %%
import pandas as pd

from ctp_lib.claims import each_input as claim
from ctp_lib.claims import seen, style
from ctp_lib.claims.estimate import flat
from ctp_lib.recovery import each_input
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level

settings = study.load()

# %% [markdown]
# ## The pool, and what is chosen
# How many inputs chose each prompt, and the mean NLL over all inputs with that prompt. `best_single`
# counts the seeds for which this prompt was best on validation. Where all inputs chose the same prompt, the choice does not depend on the
# input, and the cell does not vote.

# %%
found = each_input.obtain(settings, model, Level.parse(level))
chosen = pd.DataFrame(found["pools"])
totals = chosen.groupby(["level", "evaluated_on", "prompt"], sort=False)
totals.agg(chosen=("chosen", "sum"), nll=("nll", "mean"), best_single=("best_single", "sum")).round(3)

# %% [markdown]
# ## Treatments
# `gain` is over the same model without a prompt, `lead` over the best single prompt, both in nats per token.

# %%
table = claim.table(found["rows"])
flat(table.drop(columns="runs")).round(3)

# %%
style.save(claim.figure(table, settings.model(model).as_it_came), paths.figures(settings, model), "12_each_input")

# %%
seen.each_input(table)

# %% [markdown]
# ## Verdict on IDP

# %%
verdict = claim.verdict(table, settings.margins.nats, claim.same_for_all(found["pools"]))
verdict.write(settings, model)
print(verdict)
