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
# What do the models read? The paper learns prompts on C4 and tests them on WikiText-2 and PTB. The default study needs no download: the
# packages that it installs carry some 35 MB of English text in their docstrings.
#
# | here | in the paper |
# |---|---|
# | `documentation`, docstrings of the scientific stack | C4, broad |
# | `python_reference`, the standard library and the language reference | WikiText-2 |
# | `mathematics`, sympy, mpmath, networkx | PTB |
#
# Documents are de-duplicated across all three, then dealt into train, validation and test by a hash of their name.
#
# [With its tables and figures](../results/recorded/embedded/runs/01_corpora/all.ipynb), as last recorded.

# %%
import json

import pandas as pd

from ctp_lib.model import loading
from ctp_lib.results import tables
from ctp_lib.settings import paths, study
from ctp_lib.text import card, documents, selection

settings = study.load()
model = settings.model(settings.study.models[0])
tokenizer = loading.load_tokenizer(model)
folder = paths.corpora(settings)

# %% [markdown]
# ## Is the text enough?
# We check three things before the long work. Are there enough windows to score? Are the documents long enough for the hand-written prompts?
# Was the model trained on any of the test documents? Only the models that come with the study say what they were trained on. The cell stops
# with a message if an answer is bad.

# %%
selection.check_windows(settings, tokenizer)
print("Every corpus has enough windows.")
print(f"{len(selection.beginnings(settings, tokenizer))} documents are long enough for the written prompts.")
says = documents.check_unread(settings, model)
print("No test document was training text." if says else "The model does not say what it was trained on, so it may have read test documents.")

# %% [markdown]
# ## A document of each

# %%
for name in settings.corpora.sources:
    document = next(documents.documents(folder, name, "validation"))
    print(f"--- {name} ---\n{str(document)[:500]}\n")

# %% [markdown]
# ## The card

# %%
found = card.card(settings.corpora, folder, tokenizer, lock=settings.root / "requirements.txt")
tables.write_text(json.dumps(found, indent=1), paths.results(settings) / "corpora.json")
pd.DataFrame(found["splits"]).set_index(["corpus", "split"]).drop(columns="sha256").map("{:,}".format)

# %% [markdown]
# Other package versions than those in the lock give slightly different documents and figures. The study runs with them all the same.

# %%
differing = found["versions_that_differ_from_the_lock"]
print("All versions are those of the lock." if not differing else f"Not the lock's versions: {differing}")
