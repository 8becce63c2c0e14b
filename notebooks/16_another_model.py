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
# Claim C11: a prompt can be stitched to any other model with the same tokenizer and hidden size. The paper names it as possible and shows
# no figure.
#
# We put the prompts of `model` before `other`. It has the same tokenizer and width, another seed and fewer layers. We compare them with
# prompts that `other` learned itself.
#
# [With its tables and figures](../results/recorded/embedded/runs/16_another_model/reference-second.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"
other = "second"

# %%
from ctp_lib.claims import c11_another_model as claim
from ctp_lib.model import loading
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.recovery.soft_prompt import Prompt, SoftPrompt
from ctp_lib.results import cells
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level

settings = study.load()
recipe, spec = settings.soft_prompt, settings.another_model
loading.check_same_prompts_fit(settings.model(model), settings.model(other))
levels, seed, of = list(map(Level.parse, spec.levels)), recipe.seeds[0], [recipe.corpus]

# %% [markdown]
# ## The other model without a prompt, behind an untrained one, and behind its own

# %%
rows = []
for bench in (Bench(settings, other, level) for level in levels):
    rows += bench.score(bench.learned(NONE.name, settings.seed), of=of, prompt_kind=NONE.name, seed=settings.seed)
    untrained = Prompt(SoftPrompt.from_vocabulary(bench.network, recipe.prompt_tokens, recipe.initialisation, seed)())
    untrained.method = PROMPT.name
    rows += bench.score(untrained, of=of, prompt_kind="untrained", seed=seed)
    goal = paths.learned_for(settings, "another_model", other, bench.level, "own", seed=seed)
    own = bench.learned(PROMPT.name, seed, goal=goal, label=f"own prompt, {other}")
    rows += bench.score(own, of=of, prompt_kind="own", seed=seed, trained_on=recipe.corpus, trained_at_level=str(bench.level))

# %% [markdown]
# ## Stitch

# %%
taught = {"prompt_kind": "stitched", "trained_on": recipe.corpus}
for bench in (Bench(settings, other, level) for level in levels):
    for one in recipe.seeds:
        learned = Bench(settings, model, bench.level).learned(PROMPT.name, one, onto=bench.network)
        rows += bench.score(learned, of=of, seed=one, trained_at_level=str(bench.level), **taught)
cells.write(paths.question(settings, "another_model", model), {"model": other, "prompt_of": model}, perplexity=rows)

# %% [markdown]
# ## What came of it
# `gain` is the difference in NLL to the same model without a prompt; below zero the prompt helps.

# %%
table = claim.table(rows)
table.round(4)

# %% [markdown]
# ## Verdict on C11

# %%
verdict = claim.verdict(table)
verdict.write(settings, model)
print(verdict)
