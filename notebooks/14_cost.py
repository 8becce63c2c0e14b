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
#
# [With its tables and figures](../results/recorded/embedded/runs/14_cost/reference.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"
level = "75%"
repeats = 15

# %%
from ctp_lib.claims import c9_cost as claim
from ctp_lib.claims import style
from ctp_lib.claims.transfer import transfer_table
from ctp_lib.machine import step_cost
from ctp_lib.recovery import scores
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.results import cells, tables
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level
from ctp_lib.text import selection

settings = study.load()
recipe, comparison, at = settings.soft_prompt, settings.comparison, Level.parse(level)

# %% [markdown]
# ## One step of each
# Behind a frozen head no logits are kept: their gradient is computed with them. Full fine-tuning trains its head, and keeps them.

# %%
def network():
    """A model of its own for each: LoRA and fine-tuning change theirs."""
    return Bench(settings, model, at).network


candidates = {f"soft prompt, {recipe.prompt_tokens} vectors": step_cost.soft_prompt(network(), recipe.prompt_tokens)}
for point in comparison.lora_points:
    candidates[f"LoRA {point}"] = step_cost.lora(network(), comparison.lora(point, recipe, 0.01))
candidates["full fine-tuning"] = step_cost.full(network())

# %%
tokenizer = Bench(settings, model, at).tokenizer
batch = selection.training_text(settings, tokenizer, recipe.corpus, recipe.training, settings.seed).batch(0)
table = step_cost.table(candidates, batch, repeats=repeats)
table.drop(columns="by").round(3)

# %%
style.save(claim.figure(table), paths.figures(settings, model), "9_cost")

# %% [markdown]
# ## What a transferred prompt saves
# Seconds of training for a prompt of every level, against that of the costliest level for all of them, and what the one keeps of the gain.

# %%
known = cells.rows(scores.of_study(settings, model, [PROMPT.name]))
stitched = cells.rows([cells.read(paths.question(settings, "cross_compression", model))])
seeds, levels = settings.cross_compression.seeds, settings.study.levels
matrix = transfer_table([*known, *stitched], levels=levels, by="trained_at_level", seeds=seeds, evaluated_on=recipe.corpus)
transfer = claim.transfer_savings(tables.learning_costs(settings, model, PROMPT.name), matrix)
transfer.round(3)

# %% [markdown]
# ## Verdict on C9

# %%
verdict = claim.verdict(table, transfer)
cells.write(paths.question(settings, "cost", model), {"model": model, "level": level}, steps=table.to_dict("records"))
verdict.write(settings, model)
print(verdict)
