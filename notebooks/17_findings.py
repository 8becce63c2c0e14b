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
# The ledger: every claim of the paper, what was measured here, and whether the claim holds. Each verdict was computed in the notebook of its
# experiment, by rules that stand in `ctp_lib/claims`; this page only collects them.
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
# One row a measurement, of every model of the study.

# %%
for section in tables.COLUMNS:
    table = tables.collect(settings, section)
    tables.write(table, folder / f"{section}.csv", index=False)
    print(f"{section}.csv: {len(table):,} rows")

# %% [markdown]
# ## The claims

# %%
claims = ledger.collect(settings)
tables.write(claims.set_index("model"), folder / "claims.csv")
tables.write_text(json.dumps(claims.to_dict("records"), indent=1, ensure_ascii=False), folder / "claims.json")
tables.write_text(json.dumps(ledger.summary(claims, settings), indent=1), folder / "summary.json")
page = ledger.page(claims[claims.model == model], settings)
tables.write_text(page, folder / "findings.md")
display(Markdown(page))

# %% [markdown]
# ## The figures that carry it

# %%
for name in ("1_perplexity_by_level", "8_metric_audit", "6_prompt_or_lora", "4_cross_compression"):
    display(Image(paths.figures(settings, model) / f"{name}.png", width=900))

# %% [markdown]
# ## What this scale can say, and what it cannot
#
# That the method works as described, that its measurement is sound or not, that a formula flatters, that a file has so many bits: these
# do not depend on the size of the model. How much a prompt gives back does. The reference model has four million parameters and knows
# documentation; at seven billion, prompts are longer, compression bites elsewhere, and the shares recovered here are no estimate of those
# there. C10 asks for other model families and is not judged by the embedded study: put their hub ids into `params.yaml`.
