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
# # What learning a prompt costs
#
# Claim C9: a prompt needs gradients of the input alone: none of the weights, and no activations kept for them. The paper took about 5 hours
# on four RTX 8000 for a model of 7 billion parameters.
#
# One step of each method on the same batch of the same compressed model: the seconds (median of several, taken in turn), and the
# bytes of activations that the backward pass has to keep, counted tensor by tensor, so that they are the same on every machine. All by the
# plain loss; distillation adds the uncompressed model's forward pass to each alike, and keeps nothing of it.

# %% tags=["parameters"]
model = "reference"
level = "75%"
repeats = 15

# %%
import pandas as pd

from ctp_lib import claims, figures, models, places, preflight, results, stepcost, study, texts
from ctp_lib.compression import files

settings = study.load()
recipe, comparison = settings.soft_prompt, settings.comparison
preflight.check(settings, model, ["soft_prompt", "lora"])
tokenizer = models.load_tokenizer(settings.model(model))
goal = study.Level.parse(level)
batch = texts.training_text(settings, tokenizer, recipe.corpus, recipe.training, settings.seed).batch(0)

# %% [markdown]
# ## One step of each
# Behind a frozen head no logits are kept: their gradient is computed with them. Full fine-tuning trains its head, and keeps them.

# %%
candidates = {
    f"soft prompt, {recipe.prompt_tokens} vectors": stepcost.soft_prompt(
        files.load(settings, model, goal), recipe.prompt_tokens, recompute=recipe.training.recompute
    ),
    **{
        f"LoRA {point}": stepcost.lora(files.load(settings, model, goal), comparison.lora(point, recipe.training, 0.01))
        for point in comparison.lora_points
    },
    "full fine-tuning": stepcost.full(files.load(settings, model, goal)),
}
table = stepcost.table(candidates, batch, repeats=repeats)
table.round(3)

# %%
figures.save(figures.costs(table), places.figures_folder(settings, model), "9_cost")

# %% [markdown]
# ## What a transferred prompt saves
# Seconds of training for a prompt of every level, against that of the costliest level for all of them, and what the one keeps of the gain.

# %%
costs = pd.DataFrame(results.rows(results.read_cells(settings, model, "soft_prompt"), "cost"))
cells = results.read_cells(settings, model, "compression", "soft_prompt", "cross_compression")
matrix = claims.transfer_table(
    results.rows(cells),
    levels=settings.study.levels,
    by="trained_at_level",
    seeds=settings.cross_compression.seeds,
    evaluated_on=recipe.corpus,
)
transfer = claims.transfer_savings(costs, matrix)
transfer.round(3)

# %% [markdown]
# ## Verdict on C9

# %%
verdict = claims.cost(table, transfer)
results.write_cell(places.model_path(settings, "cost", model), {"model": model, "level": level}, steps=table.to_dict("records"))
verdict.write(settings, model)
print(verdict)
