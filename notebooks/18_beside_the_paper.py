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
# # Beside a run on real English, and the paper
#
# The embedded study reads documentation, because every machine has it. Does another text change its verdicts? To find out, we trained a
# model of the same design on English Wikipedia and Wikinews. Then we ran the whole study on C4, WikiText-2 and Wikinews, with HellaSwag,
# OpenBookQA and MMLU's European history as tasks. Its tables, figures and settings are kept under `results/recorded/english/`. This
# notebook does not compute them again.
#
# Neither run used the paper's recipe, so do not compare their numbers with the paper's. Compare only which way each result goes.
#
# `python -m ctp_lib.results.recorded NAME` keeps a run of yours in the same way.
#
# [With its tables and figures](../results/recorded/embedded/runs/18_beside_the_paper/english.ipynb), as last recorded.

# %% tags=["parameters"]
recorded = "english"

# %%
import pandas as pd
from IPython.display import HTML, Image, display

from ctp_lib.claims import beside_the_paper as claim
from ctp_lib.claims import style
from ctp_lib.results import recorded as runs
from ctp_lib.settings import paths, study

settings = study.load()
here, other = runs.read(settings, paths.results(settings), {}), runs.kept(settings, recorded)
both = {"this study": here, recorded: other}

# %% [markdown]
# ## What was run, where and when

# %%
about = {name: other.about[name] for name in ("date", "commit", "processor", "threads", "device", "python")}
recipe = other.settings.soft_prompt
print("\n".join(f"{name:10} {value}" for name, value in about.items()))
print(f"corpora    {', '.join(other.settings.corpora.sources)}; calibrated and learned on {recipe.corpus}")
print(f"prompt     {recipe.prompt_tokens} vectors, {recipe.training.steps} steps of {recipe.training.batch_windows} windows")

# %% [markdown]
# ## How much of the loss a prompt gives back
# The first panel shows the text that a prompt was learned on, the second another text. The paper reports the first only for 3 bits. Its
# perplexities with a prompt are shown as printed. They are also shown as they would be if the released code printed them with 100 vectors
# and windows of 1,024 tokens (notebook 05). A level that costs less than one per cent of perplexity has no bar. Part of the gain is not
# repair, because the uncompressed model gains too. A later section shows how much.

# %%
panels = claim.panels(both)
theirs = dict(zip(panels, claim.published_shares(), strict=True))
goal = settings.root / "figures" / settings.study.name / "beside_the_paper"
style.save(claim.figure(panels, theirs), goal, f"11_{recorded}")
pd.concat(panels, axis=1).round(3)

# %% [markdown]
# ## Verdicts side by side
# The same rules computed both.

# %%
theirs = other.claims.set_index("claim")[["measured", "verdict"]].add_suffix(f", {recorded}")
verdicts = here.claims.set_index("claim")[["says", "measured", "verdict"]].join(theirs)
HTML(verdicts.style.set_uuid("verdicts").to_html())  # named, else its ids are drawn anew in every run

# %% [markdown]
# ## Real tasks
# The figure shows accuracy on the recorded run's tasks. Grey points are the paper's, for LLaMA-7B.

# %%
other.tasks.pivot_table(index=["task", "metric", "level"], columns="method", values="value", aggfunc="mean", sort=False).round(3)

# %%
for name in ("1_perplexity_by_level", "3_cross_dataset", "4_cross_compression", "5_cross_task", "6_prompt_or_lora"):
    display(Image(settings.root / "figures" / "recorded" / recorded / "reference" / f"{name}.png", width=900))

# %% [markdown]
# ## What a prompt learns from text of a peculiar form
# WikiText-2 was released in tokenised form, with ` @-@ ` for a hyphen and `<unk>` for a rare word. A prompt learned on it can teach any
# model that form, compressed or not. The table shows the change in NLL, in nats a token, by where the prompt was learned. `net` leaves out
# the change on the uncompressed model.

# %%
pd.concat({run: claim.direct_prompts(one) for run, one in both.items()}).round(3)

# %% [markdown]
# ## What agrees
# These are the claims on which both runs reach the same verdict, and those on which they do not.

# %%
both_asked = verdicts.dropna()
same = both_asked.verdict == both_asked[f"verdict, {recorded}"]
print(f"{same.sum()} of {len(same)} verdicts agree: {', '.join(same.index[same])}")
for name, row in both_asked[~same].iterrows():
    print(f"{name}: {row.verdict} in this study, {row[f'verdict, {recorded}']} in the recorded run")
