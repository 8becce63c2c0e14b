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
# # The same prompt on another model
#
# Can a prompt be used with another model? Claim C11: it can be put before any model with the same tokenizer and hidden size. The paper names
# this as possible and shows no figure.
#
# We take the prompts that were learned on `model` and put them before the input of other models ("stitched"). In the embedded study there are
# two. `sibling` is the same model, trained a little further on mathematics alone. `second` has the same tokenizer and width, but it was
# trained separately, from another seed and with fewer layers. The claim must hold for both. We compare the prompts with untrained ones, and
# with prompts that the other model learned itself.
#
# [With its tables and figures](../results/recorded/embedded/runs/16_another_model/reference.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"

# %%
from itertools import product

from ctp_lib.claims import c11_another_model as claim
from ctp_lib.claims import seen
from ctp_lib.model import loading
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.recovery.soft_prompt import Prompt, SoftPrompt
from ctp_lib.results import cells, curves
from ctp_lib.settings import models, paths, study
from ctp_lib.settings.levels import Level

settings = study.load()
recipe, spec = settings.soft_prompt, settings.another_model

# %%
for other in spec.of(model):
    loading.check_same_prompts_fit(settings.model(model), settings.model(other))
benches = [Bench(settings, other, Level.parse(level)) for other, level in product(spec.of(model), spec.levels)]
seed, kept = recipe.seeds[0], f"another_model/{models.slug(model)}"

# %% [markdown]
# ## The other models without a prompt, with an untrained one, and with their own

# %%
def scored(bench, learned, kind, seed, **taught):
    """The rows of one prompt before one of the other models, on the broad corpus."""
    return bench.score(learned, of=[recipe.corpus], model=bench.model, prompt_kind=kind, seed=seed, **taught)


rows = []
for bench in benches:
    for one in recipe.seeds:
        drawn = SoftPrompt.from_vocabulary(bench.network, recipe.prompt_tokens, recipe.initialisation, one)()
        untrained = Prompt(drawn, trained=False)
        untrained.method = PROMPT.name
        rows += scored(bench, untrained, "untrained", one)
    goal = paths.learned_for(settings, kept, bench.model, bench.level, "own", seed=seed)
    own = bench.learned(PROMPT.name, seed, goal=goal, label=f"own prompt, {bench.model}")
    rows += scored(bench, bench.learned(NONE.name, settings.seed), NONE.name, settings.seed)
    rows += scored(bench, own, "own", seed, trained_on=recipe.corpus, trained_at_level=str(bench.level))

# %% [markdown]
# ## Use the prompts on the other models

# %%
for bench, one in product(benches, recipe.seeds):
    learned = Bench(settings, model, bench.level).learned(PROMPT.name, one, onto=bench.network)
    rows += scored(bench, learned, "stitched", one, trained_on=recipe.corpus, trained_at_level=str(bench.level))
_ = cells.write(paths.question(settings, "another_model", model), {"prompt_of": model}, perplexity=rows)

# %% [markdown]
# ## What the prompts give
# `gain` is how much lower the NLL is than without a prompt, in nats per token, and `beyond_untrained` than with untrained vectors.
# In brackets: the 95 % interval of that row alone; one seed of something learned gives none. The verdict's intervals hold for all rows
# together, so they are wider.

# %%
table = claim.table(rows)
seen.readable(table.sort_index(sort_remaining=False))

# %%
seen.another_model(table)

# %% [markdown]
# ## Verdict on C11

# %%
verdict = claim.verdict(table, settings.margins.nats, curves.still_learning(settings, model, PROMPT.name, spec.levels))
verdict.write(settings, model)
verdict
