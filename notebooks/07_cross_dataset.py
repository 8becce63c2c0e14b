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
# # From one corpus to another
#
# Does a prompt help on text of another kind than it was learned on? Claim C5: a prompt learned on a broad corpus helps on corpora that it never
# saw. A prompt learned on one of those ("direct") is better there, but it does not help on others. The paper reports, for LLaMA-7B at 3 bits:
#
# | prompt learned on | PTB | C4 |
# |---|---|---|
# | none | 15.74 | 10.74 |
# | C4 | 10.81 | 7.48 |
# | WikiText-2 | 294.16 | 160.64 |
#
# Notebook 03 learned the prompts of the broad corpus. This notebook learns a prompt on each other corpus, and scores every prompt on every
# corpus.
#
# [With its tables and figures](../results/recorded/embedded/runs/07_cross_dataset/reference.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"

# %%
from itertools import product

from ctp_lib.claims import c5_cross_dataset as claim
from ctp_lib.claims import seen, style
from ctp_lib.claims.transfer import transfer_table
from ctp_lib.recovery import scores
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.results import cells, curves
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level

settings = study.load()
spec, broad = settings.cross_dataset, settings.soft_prompt.corpus
others = [corpus for corpus in settings.corpora.sources if corpus != broad]

# %% [markdown]
# ## Learn directly
# The recipe and the number of tokens are the same. A small corpus is read more than once.

# %%
rows = []
for level in map(Level.parse, spec.levels):
    bench = Bench(settings, model, level)
    for corpus, seed in product(others, spec.seeds):
        goal = paths.learned_for(settings, "direct", model, level, corpus, seed=seed)
        learned = bench.learned(PROMPT.name, seed, corpus=corpus, goal=goal, label=corpus)
        rows += bench.score(learned, trained_on=corpus, trained_at_level=str(level), seed=seed)
_ = cells.write(paths.question(settings, "cross_dataset", model), {"model": model}, perplexity=rows)

# %% [markdown]
# ## Every prompt on every corpus
# `gain` is how much lower the NLL is than without a prompt, in nats per token, on the same windows.
# In brackets: the 95 % interval of that row alone; one seed of something learned gives none. The verdict's intervals hold for all rows
# together, so they are wider.

# %%
known = cells.rows(scores.of_study(settings, model, [PROMPT.name]))
table = transfer_table([*known, *rows], levels=spec.levels, by="trained_on", seeds=settings.soft_prompt.seeds)
seen.readable(table[["ppl_none", "ppl", "recovered", "gain"]].sort_index(level=["level", "trained_on"], sort_remaining=False))

# %%
style.save(claim.figure(table, settings.model(model).as_it_came), paths.figures(settings, model), "3_cross_dataset")

# %%
seen.cross_dataset(table, broad)

# %% [markdown]
# ## Verdict on C5

# %%
unfinished = curves.still_learning(settings, model, PROMPT.name, spec.levels)
verdict = claim.verdict(table, settings.margins.nats, broad=broad, unfinished=unfinished)
verdict.write(settings, model)
verdict
