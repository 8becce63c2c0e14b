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
# # The shape of the reference model: wide or deep?
#
# Four million parameters can stand in a few wide layers or in many narrow ones. A prompt acts through attention, layer by layer, so
# depth may help it; a compressed model has to suffer enough for a prompt to have something to repair. This notebook trains candidates of
# equal size on equal text, compresses each, learns a prompt for each, and compares.
#
# Like the model itself, the comparison is no stage of the study; it takes half an hour.

# %%
from dataclasses import asdict

import pandas as pd

from ctp_lib.appendix import shapes
from ctp_lib.results import cells
from ctp_lib.settings import study

settings = study.load()
comparison = settings.shape_comparison

# %% [markdown]
# ## All of them
# One shape after the other: train, compress, learn a prompt.

# %%
text = shapes.read(settings)
rows = [row for name in comparison.shapes for row in shapes.compare(settings, text, name)]

# %% [markdown]
# ## The comparison
# `cost` is what compression takes and `gain` what the prompt gives back, both in nats a token on the broad test split;
# `gain_spread` is the standard deviation over seeds.

# %%
asked = {"settings": asdict(comparison), "compression": asdict(settings.compression), "evaluation": asdict(settings.evaluation)}
goal = settings.root / "results" / "recorded" / "small_models" / "shapes.json"
cells.write(goal, {"comparison": "shape", **asked, "seed": settings.seed}, shapes=rows)
found = pd.DataFrame(rows).groupby(["shape", "level"], sort=False)
table = found.mean().drop(columns="seed").assign(gain_spread=found.gain_nats.std())
table["recovered_nats_share"] = table.gain_nats / table.cost_nats
table.round(3)
