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
# # The corpora: documentation that is already on this disk
#
# The paper learns prompts on C4 and tests them on WikiText-2 and PTB. Nothing can be downloaded here, and nothing needs to be: the
# packages that the study installs carry some 35 MB of English prose, written by people, in their docstrings.
#
# | here | stands where the paper has |
# |---|---|
# | `documentation`, docstrings of the scientific stack | C4, broad |
# | `python_reference`, the standard library and the language reference | WikiText-2 |
# | `mathematics`, sympy, mpmath, networkx | PTB |
#
# Documents are de-duplicated across all three, then dealt into train, validation and test by a hash of their name.

# %%
import json

import pandas as pd

from ctp_lib import corpora, models, places, study, texts

settings = study.load()
tokenizer = models.load_tokenizer(settings.model("reference"))
folder = places.corpora_folder(settings)

# %% [markdown]
# ## Does it suffice?
# What the study asks of its text, asked here, before the long work.

# %%
texts.check_windows(settings, tokenizer)
print(f"{len(texts.beginnings(settings, tokenizer))} documents are long enough for the written prompts")

# %% [markdown]
# ## A document of each

# %%
for name in settings.corpora.sources:
    document = next(corpora.documents(folder, name, "validation"))
    print(f"--- {name} ---\n{str(document)[:500]}\n")

# %% [markdown]
# ## The card

# %%
card = corpora.card(settings.corpora, folder, tokenizer, lock=settings.root / "requirements.txt")
(settings.root / "results" / "corpora.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
pd.DataFrame(card["splits"]).set_index(["corpus", "split"])

# %% [markdown]
# Other versions than the lock's give other documents, and other figures after the decimal point. The study goes on all the same.

# %%
differing = card["versions_that_differ_from_the_lock"]
print("All versions are those of the lock." if not differing else f"Not the lock's versions: {differing}")
