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
# # What repairs a compressed model? Every way side by side
#
# The paper asks whether a soft prompt repairs a compressed model. If you have such a model, you ask something else: which repair should I
# use? This notebook compares soft prompts and LoRA with the other repairs that people use, and with controls. Some controls learn
# nothing: real text, random tokens. Two others are trained but cannot see the input: a temperature, and a bias for each token. All
# trained methods get the same compressed models, the same text and the same number of steps; IDP (a prompt chosen for each input) takes
# that many steps for each of its prompts. EoRA is computed from the calibration text. For each method, the learning rate is chosen on
# validation at its first size; all its sizes use that rate.
#
# Three of the methods come with a claim of their own:
#
# - DePT: a shorter prompt, together with changes to the word embeddings, beats a plain prompt with as many parameters.
# - DSnoT: swapping some pruned weights with kept ones repairs a pruned model without training.
# - EoRA: a low-rank correction, computed from the compression error, repairs without training.
#
# A method counts as an *established repair* only if it does two things: it has a lower NLL than the best control, and it brings the model
# nearer to the uncompressed one than that control does (a lower KL divergence). Even an output bias, which does not see the input, lowers
# both a little. A method is *not measured* if a learning rate outside of those tried may be better, or if it was still learning when its
# training ended.
#
# [With its tables and figures](../results/recorded/embedded/runs/11_every_repair/reference.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"

# %%
import pandas as pd

from ctp_lib.claims import every_repair as claim
from ctp_lib.claims import every_repair_figures as figures
from ctp_lib.claims import seen, style
from ctp_lib.claims.estimate import flat
from ctp_lib.compression import reached
from ctp_lib.machine.ceiling import least_seconds
from ctp_lib.recovery import comparison, scores
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.results import cells, tables
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level

settings = study.load()
broad, margin = settings.soft_prompt.corpus, settings.margins.nats

# %% [markdown]
# ## Better compression first
# Better compression may help more than a repair. The table shows every compressed model without a repair, including those made by other
# compression methods: bits per weight (with scales and masks), bytes, perplexity, and KL to the uncompressed model.

# %%
none = cells.rows([scores.obtain(settings, model, level, NONE.name) for level in settings.compressed])
stored = {str(level): reached.obtain(settings, model, level)["reached"] for level in settings.compressed}
alone = claim.alone(settings, none, stored)
seen.readable(alone).style.hide(axis="index")

# %% [markdown]
# ## The sweeps
# Validation NLL at each rate, at the first size of every method.

# %%
compared = comparison.of_study(settings, model)
rows = cells.rows(compared)
swept = pd.DataFrame(cells.rows(compared, "swept"))
seen.readable(swept.pivot(index=["level", "method", "point"], columns="learning_rate", values="validation_nll"))

# %% [markdown]
# ## Every repair
# `point`: the size. `bytes_added`: what the repair adds on disk. `seconds`: to learn it once, or to compute it (EoRA). `read`, `write`:
# seconds to read a window, and to write one token after it; the CSV file also has them without the repair. `ppl`, `kl`: perplexity, and
# divergence from the uncompressed model; the compressed model alone is in the table above. `beyond`: the gain over the best control, in nats
# per token. In brackets: the 95 % interval of that row alone; one seed of something learned gives none. The verdict's intervals hold for all
# rows together, so they are wider.

# %%
table = claim.table(settings, model, rows, none)
tables.write(flat(table.drop(columns="runs")), paths.table(settings, "every_repair", model), index=False)
shown = ["level", "name", "point", "bytes_added", "seconds", "read", "write", "ppl", "kl", "beyond"]
seen.readable(table[shown]).style.hide(axis="index")

# %% [markdown]
# How much of the seconds could better code save? The matrix products alone of one forward and backward pass over the training text would take,
# on this machine:

# %%
tokens = settings.soft_prompt.training.steps * settings.soft_prompt.training.batch_windows * settings.evaluation.window
network = Bench(settings, model, Level()).network
print(f"{least_seconds(network, tokens):.2f} s for {tokens:,} tokens")

# %%
style.save(figures.figure(table, alone, settings, settings.model(model).as_it_came), paths.figures(settings, model), "11_every_repair")

# %%
seen.every_repair(table)

# %% [markdown]
# ## Answers to tasks
# The share of right answers with the best size of each repair, and that of the compressed model alone (`none`).

# %%
answered = cells.rows([cells.read(paths.question(settings, "cross_task", model))], "tasks")
answered = [row for row in answered if row["method"] == NONE.name and row["level"] in settings.comparison.levels]
asked = pd.DataFrame([*answered, *cells.rows(compared, "tasks")])
asked.pivot_table(index=["level", "method"], columns="task", values="value", sort=False).round(3)

# %% [markdown]
# ## Where in a window a repair helps
# The first tokens of a window have no context. If a prompt only replaces that context, it helps there, and no longer at the end.

# %%
style.save(figures.by_position(table, none, settings), paths.figures(settings, model), "11c_by_position")

# %% [markdown]
# ## At other levels and on other corpora
# The table shows what each repair gains, in nats per token: at the level where it was learned (`home`), at other levels if the study compares at
# several, and on other corpora. The paper says that prompts transfer. If this is true, a prompt should keep more of its gain here than the
# other repairs do, which are made for one set of weights.

# %%
moved = comparison.carried(settings, model)
elsewhere = claim.carried(table, rows, moved, none, broad)
seen.readable(elsewhere)

# %%
style.save(figures.carried(elsewhere), paths.figures(settings, model), "11b_carried")

# %%
seen.carried(elsewhere)

# %% [markdown]
# ## Which repair for which damage
# For each method, the size that is best on validation. A repair is established if its outcome is *supported*. With one seed, no trained
# method can be established, and a comparison with a trained control has no interval either.

# %%
found = claim.outcomes(table, margin)
full = alone[alone.level == "full"].ppl.item()
for sentence in claim.advice(found, alone, full):
    print(sentence)
seen.readable(found[["level", "name", "point", "ppl", "beyond", "nearer_beyond", "outcome", "silent"]]).style.hide(axis="index")

# %% [markdown]
# ## Verdicts
# On DePT, DSnoT and EoRA.

# %%
verdicts = claim.dept(table, margin), claim.dsnot(none, broad, margin), claim.eora(table, margin)
for verdict in verdicts:
    verdict.write(settings, model)
seen.Said("\n\n".join(verdict.page() for verdict in verdicts))
