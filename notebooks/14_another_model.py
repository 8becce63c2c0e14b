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
# The prompts of `model` go before `other`, which has the same tokenizer and width, another seed and fewer layers. What its own prompt gives
# there is the measure.

# %% tags=["parameters"]
model = "reference"
other = "second"

# %%
from ctp_lib import claims, experiments, learning, models, places, preflight, prompts, results, study, texts
from ctp_lib.compression import recipes
from ctp_lib.study import Level

settings = study.load()
recipe = settings.soft_prompt
tokenizer = models.load_tokenizer(settings.model(other))
preflight.check(settings, other, ["compress", "evaluate", "soft_prompt"])
models.check_same_prompts_fit(settings.model(model), settings.model(other))
scored = texts.scored_texts(settings, tokenizer, of=[recipe.corpus])
seed = recipe.seeds[0]

# %% [markdown]
# ## Compress the other model, stitch, and learn its own prompt

# %%
rows = []
for level in map(Level.parse, settings.another_model.levels):
    network = models.load_model(settings.model(other), on="cpu")  # where there is a GPU, layers visit it one by one
    recipes.compress(network, level, texts.calibration_windows(settings, tokenizer), settings.compression).to(models.device())
    text = texts.training_text(settings, tokenizer, recipe.corpus, recipe.training, seed)
    checkpoint = places.checkpoint_path(settings, "another_model", other, level)
    teacher = learning.teacher(settings, other, level)
    label = f"own prompt, {other}, {level}"
    own, _ = learning.learn_prompt(network, recipe, text, teacher=teacher, seed=seed, checkpoint=checkpoint, label=label)
    untrained = prompts.SoftPrompt.from_vocabulary(network, recipe.prompt_tokens, recipe.initialisation, seed)
    rows += experiments.score(network, scored, method="none", prompt_kind="none", level=str(level), seed=settings.seed)
    tried = [("own", seed, own), ("untrained", seed, untrained)]
    tried += [("stitched", one, prompts.load(places.prompt_folder(settings, model, level, one), network)) for one in recipe.seeds]
    for kind, one, prompt in tried:
        learned = {} if kind == "untrained" else {"trained_on": recipe.corpus, "trained_at_level": str(level)}
        rows += experiments.score(
            network, scored, method="soft_prompt", prompt=prompt().detach(), prompt_kind=kind, level=str(level), seed=one, **learned
        )
results.write_cell(places.model_path(settings, "another_model", model), {"model": other, "prompt_of": model}, perplexity=rows)
for level in settings.another_model.levels:
    places.checkpoint_path(settings, "another_model", other, level).unlink(missing_ok=True)

# %% [markdown]
# ## What came of it
# `gain` is the difference in NLL to the same model without a prompt; below zero the prompt helps.

# %%
table = claims.another_model_table(rows)
table.round(4)

# %% [markdown]
# ## Verdict on C11

# %%
verdict = claims.another_model(table)
verdict.write(settings, model)
print(verdict)
