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
# lengths, corpora and levels. The first tokens of an input choose its prompt, and only the tokens after them are scored, so the perplexities
# differ from those of other notebooks. The oracle knows which prompt is best for each input: the upper limit of any choice.
#
# [With its tables and figures](../results/recorded/embedded/runs/12_a_prompt_for_each_input/reference-s75.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"
level = "75%"

# %%
import pandas as pd

from ctp_lib.claims import each_input as claim
from ctp_lib.claims import seen, style
from ctp_lib.recovery import each_input
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level

settings = study.load()

# %% [markdown]
# ## The pool, and what is chosen
# `chosen`: how many inputs chose the prompt, over all seeds. `nll`: the mean over all inputs with that prompt. `best_single`: in how many of the
# seeds it was the best on validation, which is text of the broad corpus. If all inputs chose the same prompt, the choice does not depend on
# the input, and the cell does not vote.

# %%
found = each_input.obtain(settings, model, Level.parse(level))
chosen = pd.DataFrame(found["pools"])
totals = chosen.groupby(["level", "evaluated_on", "prompt"], sort=False)
totals.agg(chosen=("chosen", "sum"), nll=("nll", "mean"), best_single=("best_single", "sum")).round(3)

# %% [markdown]
# ## Treatments
# `gain` is over the same model without a prompt, `lead` over the best single prompt, both in nats per token.
# In brackets: the 95 % interval of that row alone; one seed of something learned gives none. The verdict's intervals hold for all rows
# together, so they are wider.

# %%
table, same = claim.table(found["rows"]), claim.same_for_all(found["pools"])
seen.readable(table.drop(columns="runs")).style.hide(axis="index")

# %%
style.save(claim.figure(table, settings.model(model).as_it_came), paths.figures(settings, model), "12_each_input")

# %%
seen.each_input(table, same)

# %% [markdown]
# ## Verdict on IDP

# %%
verdict = claim.verdict(table, settings.margins.nats, same)
verdict.write(settings, model)
verdict
