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
# # Try your model
#
# Name a model and, if you like, a text of your own. This notebook compresses the model, learns a repair at each level, and says what
# compression cost, what each repair gave back, and which did best. It changes nothing in `params.yaml`, and it aims at `minutes`.
#
# - `model`: a name in `params.yaml`, a folder, a `.gguf` file, or an id on the Hugging Face Hub
# - `levels`: for instance `3bit`, `2bit/g64`, `75%`, `2:4`, `50%+4bit`, `wanda:50%`
# - `text`: a corpus of the study, or files: `notes.txt`, `notes/*.txt`, `rows.jsonl`. Empty means the study's broad corpus.
# - `methods`: what is learned, from `ctp_lib/recovery`
#
# A few minutes give a first impression. The learning rates are a rule of thumb, and one seed is learned. Run it again with more minutes to
# see how far the repairs go.

# %% tags=["parameters"]
model = "reference"
levels = ["3bit", "75%"]
text = ""
methods = ["soft_prompt", "lora"]
minutes = 10

# %%
from ctp_lib.claims import repair, style
from ctp_lib.results import tables
from ctp_lib.run import trial
from ctp_lib.settings import paths, study

settings = trial.settle(study.load(), model, levels, text, methods)
(name,) = settings.study.models

# %% [markdown]
# ## Compress, and choose what the minutes allow

# %%
settings = trial.fit(settings, minutes)

# %% [markdown]
# ## Learn and score
# Finished work is not repeated, so a run that was stopped continues.

# %%
scored = trial.scored(settings)

# %% [markdown]
# ## Results
# `gain` is in nats per token, with an interval over documents (95 % for all rows together). A repair is compared with the compressed model
# alone. The compressed model is compared with the uncompressed one, so its `gain` is normally below zero. Above zero is better. `kl` is the
# divergence from the uncompressed model: a repair brings it down.

# %%
found = trial.table(settings)
tables.write(found, paths.results(settings) / "table.csv")
found.round(3)

# %%
shown = [level for level in settings.study.levels if level != "full"]
style.save(repair.figure(repair.table(settings, scored, [], []), shown, settings), paths.figures(settings, name), "try_your_model")

# %% [markdown]
# ## How the models write
# The beginning of a held-out text, and how each model goes on with it.

# %%
for writer, wrote in trial.samples(settings).items():
    print(f"--- {writer}\n{wrote}")

# %% [markdown]
# ## Summary

# %%
print("\n".join(trial.advice(settings, found)))
print(f"The compressed models and the repairs are in models/{settings.study.name}. Prompts and LoRA are PEFT adapters.")
