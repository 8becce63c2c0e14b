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
# Claim C12: the nearest vocabulary embeddings of each learned vector show what the prompt says. The paper prints them in its appendix.
#
# A vector that hardly moved is nearest to the token it started from, and then its neighbours say where it began, not what it learned. So
# the start is shown beside the end; and what is really learned should not depend on the seed: prompts of different seeds should
# name the same tokens.

# %% tags=["parameters"]
model = "reference"
level = "75%"

# %%
import pandas as pd

from ctp_lib import claims, figures, models, places, prompts, reading, results, study
from ctp_lib.study import Level

settings = study.load()
recipe = settings.soft_prompt
tokenizer = models.load_tokenizer(settings.model(model))
network = models.load_model(settings.model(model))
table = prompts.vocabulary(network)
start = {
    seed: prompts.SoftPrompt.from_vocabulary(network, recipe.prompt_tokens, recipe.initialisation, seed)().detach()
    for seed in recipe.seeds
}
learned = {
    (str(at), seed): prompts.load(places.prompt_folder(settings, model, at, seed), network)().detach()
    for at in settings.levels
    for seed in recipe.seeds
}

# %% [markdown]
# ## One prompt, vector by vector
# `moved` is the distance from the start over the start's own length.

# %%
seed = recipe.seeds[0]
vectors = learned[str(Level.parse(level)), seed]
names = [
    [tokenizer.decode(row) for row in reading.nearest(tried, table, metric)]
    for tried, metric in ((start[seed], "cosine"), (vectors, "cosine"), (vectors, "euclid"))
]
pd.DataFrame(
    {
        "start": names[0],
        "nearest by cosine": names[1],
        "nearest by distance": names[2],
        "cosine to start": reading.cosines(vectors, start[seed]).tolist(),
        "moved": ((vectors - start[seed]).norm(dim=1) / start[seed].norm(dim=1)).tolist(),
    }
).round(2)

# %% [markdown]
# ## All prompts
# How far they went, and the share of vectors whose nearest token is still the one they started from.

# %%
moves = reading.movement_table(learned, start, table)
moves.groupby(level="level", sort=False).mean().round(3)

# %% [markdown]
# Vectors that left their start name another token. How many of those two seeds share, at the same level, and how many as
# many random directions would.

# %%
agreement = reading.agreement_table(learned, start, table)
parts = {"moves": moves.reset_index().to_dict("records"), "agreement": agreement.reset_index().to_dict("records")}
results.write_cell(places.model_path(settings, "reading", model), {"model": model, "method": "soft_prompt"}, **parts)
agreement.round(3)

# %%
alike = pd.DataFrame(
    {
        f"{a[0]} #{a[1]}": {f"{b[0]} #{b[1]}": reading.cosines(learned[a], learned[b]).mean().item() for b in learned}
        for a in learned
    }
)
figures.save(figures.similarity(alike), places.figures_folder(settings, model), "10_prompt_similarity")

# %% [markdown]
# ## Verdict on C12

# %%
verdict = claims.reading(moves, agreement)
verdict.write(settings, model)
print(verdict)
