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
# # Findings
#
# This is the ledger: every claim that the study tests, what was measured here, and the outcome. Each experiment's notebook computes the
# outcome, by the rules in `ctp_lib/claims/verdict.py` and the margins in `params.yaml`. This page only collects them.
#
# [With its tables and figures](../results/recorded/embedded/runs/17_findings/reference.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"

# %%
import json

from IPython.display import Image, Markdown, display

from ctp_lib.claims import ledger
from ctp_lib.results import tables
from ctp_lib.settings import paths, study

settings = study.load()
folder = paths.results(settings)

# %% [markdown]
# ## All tables
# Each table has one row for each measurement, for all models of the study.

# %%
for section in tables.COLUMNS:
    table = tables.collect(settings, section)
    tables.write(table, folder / f"{section}.csv", index=False)
    print(f"{section}.csv: {len(table):,} rows")

# %% [markdown]
# ## The claims

# %%
claims = ledger.collect(settings)
tables.write_text(json.dumps(claims, indent=1, ensure_ascii=False), folder / "claims.json")
tables.write_text(json.dumps(ledger.summary(claims, settings), indent=1), folder / "summary.json")
page = ledger.page([claim for claim in claims if claim["model"] == model], settings)
tables.write_text(page, folder / "findings.md")
display(Markdown(page))

# %% [markdown]
# ## Four figures

# %%
for name in ("1_perplexity_by_level", "8_metric_audit", "6_prompt_or_lora", "4_cross_compression"):
    display(Image(paths.figures(settings, model) / f"{name}.png", width=900))

# %% [markdown]
# ## What this scale can say, and what it cannot
#
# Two findings do not depend on the model's size: what the released metric counts, and how many bits a weight takes. The share that a prompt
# gives back does depend on it. The small model of the default study has four million parameters and knows only documentation, and SmolLM2 has
# 135 million. A model of seven billion loses different things to compression, so the shares found here say nothing about it. No study decides
# C10, whether the result holds for other model families. The study `paper` has OPT, LLaMA and BLOOM models, whose tables can be compared.
