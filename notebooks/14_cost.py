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
# What does it cost to learn a prompt? Claim C9: training needs gradients for the prompt only, so fewer activations are kept in memory. The paper
# took about 5 hours on four RTX 8000 for a model of 7 billion parameters.
#
# We take the same step with each method, on the same batch and the same compressed model. We measure seconds (the median of 15 steps)
# and the bytes of activations that the backward pass keeps. The bytes are counted tensor by tensor, so they are the same on every machine.
# All methods use the plain loss. Distillation would add the same forward pass to each.
#
# [With its tables and figures](../results/recorded/embedded/runs/14_cost/reference-s75.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"
level = "75%"

# %%
from ctp_lib.claims import c9_cost as claim
from ctp_lib.claims import seen, style
from ctp_lib.claims.transfer import transfer_table
from ctp_lib.machine import preflight, step_cost
from ctp_lib.recovery import scores
from ctp_lib.recovery.base import sized
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.lora import METHOD as LORA
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.results import cells, tables
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level
from ctp_lib.text import selection

settings = study.load()
recipe, at = settings.soft_prompt, Level.parse(level)

# %% [markdown]
# ## One step of each
# If the output layer is frozen, the logits need not be kept. Full fine-tuning trains that layer, so it keeps them. LoRA keeps the most if its
# matrices lie beside all others: each keeps its own input besides.

# %%
def network():
    """A model of its own for each: LoRA and fine-tuning change theirs."""
    return Bench(settings, model, at).network


candidates = {f"soft prompt, {recipe.prompt_tokens} vectors": lambda: step_cost.soft_prompt(network(), recipe.prompt_tokens)}
for point, size in settings.comparison.repairs[LORA.name].sizes.items():
    spec = sized(settings, LORA.name, size, rate=0.01)
    candidates[f"LoRA {point}"] = lambda spec=spec: step_cost.lora(network(), spec)
weights = sum(weight.nbytes for weight in network().parameters())
if 4 * weights < preflight.available(settings):  # they, their gradients, and AdamW's two averages of each
    candidates["full fine-tuning"] = lambda: step_cost.full(network())
else:
    print(f"Full fine-tuning takes {4 * weights / 1e9:.0f} GB and more. This machine has less, so it is left out.")

# %%
tokenizer = Bench(settings, model, at).tokenizer
batch = selection.training_text(settings, tokenizer, recipe.corpus, recipe.training, settings.seed).batch(0)
table = step_cost.table(candidates, batch, repeats=15)
seen.readable(table.drop(columns="by")).style.hide(axis="index")

# %%
style.save(claim.figure(table), paths.figures(settings, model), "9_cost")

# %%
seen.step(table)

# %% [markdown]
# ## What a transferred prompt saves
# We compare two plans. The first trains one prompt for each level. The second trains one prompt, at the level that loses the most, and uses it
# at all levels. The table shows the seconds of each, and the sum of the gains over all levels as a share of the first plan's. A negative share
# means that the single prompt does harm at other levels.

# %%
known = cells.rows(scores.of_study(settings, model, [PROMPT.name]))
stitched = cells.rows([cells.read(paths.question(settings, "cross_compression", model))])
seeds, levels = settings.cross_compression.seeds, settings.study.levels
matrix = transfer_table([*known, *stitched], levels=levels, by="trained_at_level", seeds=seeds, evaluated_on=recipe.corpus)
transfer = claim.transfer_savings(tables.learning_costs(settings, model, PROMPT.name), matrix)
seen.readable(transfer)

# %% [markdown]
# ## Verdict on C9

# %%
sizes = settings.soft_prompt.prompt_tokens, settings.evaluation.window
verdict = claim.verdict(table, transfer, settings.margins.bytes, *sizes)
_ = cells.write(paths.question(settings, "cost", model), {"model": model, "level": level}, steps=table.to_dict("records"))
verdict.write(settings, model)
verdict
