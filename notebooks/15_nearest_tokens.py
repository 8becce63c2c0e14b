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
# # Can a learned prompt be read?
#
# Claim C12: the vocabulary embeddings nearest to each learned vector show what the prompt says. The paper prints them in its appendix.
#
# A vector that hardly moved is still nearest to the token it started from. Its neighbour then shows where it started, not what it learned. So
# we print both. What a prompt really learns should not depend on the seed, so prompts of different seeds should name the same tokens. That is
# necessary, not sufficient.
#
# [With its tables and figures](../results/recorded/embedded/runs/15_nearest_tokens/reference-s75.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"
level = "75%"

# %%
from ctp_lib.claims import c12_nearest_tokens as claim
from ctp_lib.claims import seen, style
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.recovery.soft_prompt import SoftPrompt
from ctp_lib.results import cells
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level

settings = study.load()
recipe, full = settings.soft_prompt, Bench(settings, model, Level())
network, tokenizer = full.network, full.tokenizer
vocabulary = claim.vocabulary(network)

# %% [markdown]
# ## All prompts, and where they started

# %%
tokens, way = recipe.prompt_tokens, recipe.initialisation
start = {seed: SoftPrompt.from_vocabulary(network, tokens, way, seed)().detach() for seed in recipe.seeds}
learned = {}
for bench in (Bench(settings, model, at) for at in settings.levels):
    for seed in recipe.seeds:
        learned[str(bench.level), seed] = bench.learned(PROMPT.name, seed, onto=network).vectors

# %% [markdown]
# ## One prompt, vector by vector
# `moved` is the distance from the start, divided by the start's own length.

# %%
seed = recipe.seeds[0]
one = Bench(settings, model, Level.parse(level)).learned(PROMPT.name, seed, onto=network).vectors
claim.one_prompt(one, start[seed], vocabulary, tokenizer).round(2)

# %% [markdown]
# ## How far they went
# `still_start` is the share of vectors whose nearest token is still the one they started from.

# %%
moves = claim.movement_table(learned, start, vocabulary)
moves.groupby(level="level", sort=False).mean().round(3)

# %% [markdown]
# `shared`: how many new tokens the prompts of two seeds share; a token that a vector started from is not new. Some tokens lie near many vectors,
# so two prompts can share a token by chance. As a control, we deal the displacements anew: each vector starts where it started, and moves as
# another vector of that level did. `by_chance`: how many new tokens those prompts share. `more`: the difference.
# In brackets: the 95 % interval of that row alone; one seed of something learned gives none. The verdict's intervals hold for all rows
# together, so they are wider.

# %%
agreement = claim.agreement_table(learned, start, vocabulary)
parts = {"moves": moves.reset_index().to_dict("records"), "agreement": agreement[["shared", "by_chance"]].reset_index().to_dict("records")}
_ = cells.write(paths.question(settings, "nearest_tokens", model), {"model": model}, **parts)
seen.readable(agreement, digits=1)

# %%
seen.agreement(agreement, moves.still_start.mean())

# %%
style.save(claim.figure(claim.likeness(learned)), paths.figures(settings, model), "10_prompt_similarity")

# %% [markdown]
# ## Verdict on C12

# %%
verdict = claim.verdict(moves, agreement, settings.margins.tokens)
verdict.write(settings, model)
verdict
