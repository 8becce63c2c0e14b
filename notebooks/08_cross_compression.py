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
# # From one compression level to another
#
# Does a prompt help at another level than it was learned at? Claim C6: it does, also between quantised and pruned models, and best from strong
# to mild compression. The paper plots this for LLaMA-7B.
#
# We test each level's prompt at every other level. The prompt of the *uncompressed* model is the control: what it gives is not repair.
#
# [With its tables and figures](../results/recorded/embedded/runs/08_cross_compression/reference.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"

# %%
from itertools import product

from ctp_lib.claims import c6_cross_compression as claim
from ctp_lib.claims import seen, style
from ctp_lib.claims.estimate import flat
from ctp_lib.claims.transfer import transfer_table
from ctp_lib.recovery import scores
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.results import cells, curves
from ctp_lib.settings import paths, study

settings = study.load()
seeds, broad, levels = settings.cross_compression.seeds, settings.soft_prompt.corpus, list(settings.study.levels)

# %% [markdown]
# ## Use each prompt at every other level
# The diagonal, a prompt at its own level, was scored for notebook 04.

# %%
rows = []
for bench in (Bench(settings, model, level) for level in settings.levels):
    for source, seed in product(settings.levels, seeds):
        if source != bench.level:
            learned = Bench(settings, model, source).learned(PROMPT.name, seed, onto=bench.network)
            asked = {"of": [broad], "divergence": bench.level.family == "full"}
            rows += bench.score(learned, trained_on=broad, trained_at_level=str(source), seed=seed, **asked)
_ = cells.write(paths.question(settings, "cross_compression", model), {"model": model}, perplexity=rows)

# %% [markdown]
# ## The matrix
# A row is a level where a prompt was learned. A column is a level where it is used. Above zero the prompt helps. Each cell is a mean over the
# seeds of this notebook, so the diagonal can differ a little from notebook 04.

# %%
known = cells.rows(scores.of_study(settings, model, [PROMPT.name]))
table = transfer_table([*known, *rows], levels=levels, by="trained_at_level", seeds=seeds, evaluated_on=broad)
flat(table[["gain"]]).gain.unstack("level")[levels].loc[levels].round(3)

# %%
style.save(claim.figure(table, levels), paths.figures(settings, model), "4_cross_compression")

# %%
seen.cross_compression(table, settings.margins.nats)

# %% [markdown]
# ## More to less, or less to more?
# The level that compression costs more counts as `more`. `gain`: of the transferred prompts, in the mean; `own_gain`: of the levels' own.
# `share` is the first divided by the second. `within`: both levels pruned, or both quantised.

# %%
directions = claim.directions(table)
seen.readable(directions)

# %% [markdown]
# ## Verdict on C6

# %%
verdict = claim.verdict(table, settings.margins.nats, curves.still_learning(settings, model, PROMPT.name, levels))
verdict.write(settings, model)
verdict
