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
# experiment, by rules that stand in `ctp_lib/claims.py`; this page only collects them.

# %% tags=["parameters"]
model = "reference"

# %%
from IPython.display import Image, Markdown, display

from ctp_lib import claims, places, results, study

settings = study.load()
folder = settings.root / "results"

# %% [markdown]
# ## All tables
# One row a measurement, of every model of the study.

# %%
everything = results.read_all_cells(settings)
for section, columns in results.TABLES.items():
    table = results.table(everything, section, columns)
    table.to_csv(folder / f"{section}.csv", index=False, float_format="%.6g")
    print(f"results/{section}.csv: {len(table):,} rows")

# %% [markdown]
# ## The claims

# %%
ledger = claims.ledger(settings)
results.write_table(ledger.set_index("model"), folder / "claims.csv")
prompt = settings.soft_prompt
tokens = prompt.training.steps * prompt.training.batch_windows * settings.evaluation.window
learned = f"A prompt has {prompt.prompt_tokens} vectors, learned from {tokens:,} tokens of {prompt.corpus} by {prompt.how}."
page = f"{claims.as_markdown(ledger[ledger.model == model])}\n\n{learned}"
results.write_page(page, places.model_path(settings, "findings", model).with_suffix(".md"))
results.write_summary(ledger, settings)
display(Markdown(page))

# %% [markdown]
# ## The figures that carry it

# %%
for name in ("1_perplexity_by_level", "8_metric_audit", "6_prompt_or_lora", "4_cross_compression"):
    display(Image(places.figures_folder(settings, model) / f"{name}.png", width=900))

# %% [markdown]
# ## What this scale can say, and what it cannot
#
# That the method works as described, that its measurement is sound or not, that a formula flatters, that a file has so many bits: these
# do not depend on the size of the model. How much a prompt gives back does. The reference model has four million parameters and knows
# documentation; at seven billion, prompts are longer, compression bites elsewhere, and the shares recovered here are no estimate of those
# there. C10 asks for other model families and is not judged by the embedded study: put their hub ids into `params.yaml`.
