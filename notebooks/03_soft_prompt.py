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
# # A soft prompt for one compressed model
#
# Claim C2 of the paper: a few vectors put before the input, learned through the frozen compressed model on a general
# corpus, lower its perplexity at every level. For LLaMA-7B at 3 bits it reports 10.74 without and 7.48 with a prompt on
# C4 (uncompressed: 7.59).
#
# This notebook learns the prompt for `model` at `level` on the broad corpus, keeps the step that is best on the
# *validation* split, and reports it on the *test* split of every corpus.

# %% tags=["parameters"]
model = "reference"
level = "75%"

# %%
from dataclasses import asdict, replace

import pandas as pd

from ctp_lib import experiments, learning, models, places, preflight, prompts, study, texts
from ctp_lib.compression import files
from ctp_lib.results import measured
from ctp_lib.study import Level

settings = study.load()
spec = settings.model(model)
goal = Level.parse(level)
preflight.check(settings, model, ["soft_prompt"])
tokenizer = models.load_tokenizer(spec)
network, teacher = files.load(settings, model, goal), learning.teacher(settings, model, goal)
recipe = settings.soft_prompt if teacher else replace(settings.soft_prompt, loss="next-token")

# %% [markdown]
# ## Learn
# Only the prompt gets a gradient; the model's weights are frozen. By `soft_prompt.recipe` the loss is a mean over the real tokens of their
# plain next-token NLL, as in the paper, or of the divergence from what the uncompressed model predicts, which knows more of each token:
# with it a tenth of the tokens does. The uncompressed model itself can only learn from the text.
# A seed decides where the prompt starts and in which order it sees the text. Each prompt is saved as a PEFT adapter as soon as it is
# learned: `PeftModel.from_pretrained` opens it.

# %%
learned, costs, curve = {}, [], []
for seed in recipe.seeds:
    text = texts.training_text(settings, tokenizer, recipe.corpus, recipe.training, seed)
    checkpoint = places.checkpoint_path(settings, "soft_prompt", model, goal, seed)
    with measured("train", seed=seed) as cost:
        prompt, run = learning.learn_prompt(
            network, recipe, text, teacher=teacher, seed=seed, checkpoint=checkpoint, label=f"soft prompt, {level}, seed {seed}"
        )
    prompts.save(prompt, places.prompt_folder(settings, model, goal, seed), spec, network)
    cost.tokens, cost.seconds = run.tokens, run.seconds
    learned[seed] = prompt().detach()
    costs.append(cost)
    curve += [{**row, "seed": seed} for row in run.curve]

# %%
by_seed = pd.DataFrame(curve).pivot(index="tokens", columns="seed", values="validation_nll")
axis = by_seed.plot(xlabel="tokens seen", ylabel="validation NLL (nats a token)")
# %% [markdown]
# ## Measure

# %%
rows = []
with measured("evaluate") as cost:
    scored = texts.scored_texts(settings, tokenizer)
    for seed, prompt in learned.items():
        rows += experiments.score(
            network, scored, method="soft_prompt", prompt=prompt, trained_on=recipe.corpus, trained_at_level=level, seed=seed
        )
cost.tokens = sum(row["tokens_scored"] for row in rows)
experiments.write(settings, "soft_prompt", model, goal, rows=rows, costs=[*costs, cost], curve=curve, recipe=asdict(recipe))
for seed in recipe.seeds:
    places.checkpoint_path(settings, "soft_prompt", model, goal, seed).unlink(missing_ok=True)
pd.DataFrame(rows)[["evaluated_on", "seed", "ppl", "ppl_released", "bits_per_byte", "windows", "tokens_scored"]]
