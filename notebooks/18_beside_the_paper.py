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
# The embedded study reads documentation, because that is what every machine has. Does another text change its verdicts? A reference model of
# the same design was trained on English Wikipedia and Wikinews, and the whole study was run on C4, WikiText-2 and Wikinews, with HellaSwag,
# OpenBookQA and MMLU's European history as tasks. Its tables and figures are kept under `results/recorded/english/`, with its settings and how
# they were made; nothing here computes them again. The embedded run and the paper stand beside it, to see which way each goes: neither run took
# the paper's own recipe, so no figure of theirs is to be held against one of the paper's.
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
# On the text it was learned on, and on another one. The paper has the first for 3 bits alone. Its perplexities with a prompt are shown as
# printed, and as they would be exactly if the released code printed them with 100 vectors and windows of 1,024 tokens (notebook 05).
# Levels that cost less than one per cent of perplexity have no bar. Not all that is given back is repair: what a prompt teaches the
# *uncompressed* model as well is told further down.

# %%
panels = claim.panels(both)
theirs = dict(zip(panels, claim.published_shares(), strict=True))
goal = settings.root / "figures" / settings.study.name / "beside_the_paper"
style.save(claim.figure(panels, theirs), goal, f"11_{recorded}")
pd.concat(panels, axis=1).round(3)

# %% [markdown]
# ## Verdicts side by side
# Each was computed by the same rules.

# %%
theirs = other.claims.set_index("claim")[["measured", "verdict"]].add_suffix(f", {recorded}")
verdicts = here.claims.set_index("claim")[["says", "measured", "verdict"]].join(theirs)
HTML(verdicts.style.set_uuid("verdicts").to_html())  # named, else its ids are drawn anew in every run

# %% [markdown]
# ## Real tasks
# Accuracy on the recorded run's tasks, a quarter being chance. The paper's for LLaMA-7B are drawn in grey.

# %%
other.tasks.pivot_table(index=["task", "metric", "level"], columns="method", values="value", aggfunc="mean", sort=False).round(3)

# %%
for name in ("1_perplexity_by_level", "3_cross_dataset", "4_cross_compression", "5_cross_task", "6_prompt_or_lora"):
    display(Image(settings.root / "figures" / "recorded" / recorded / "reference" / f"{name}.png", width=900))

# %% [markdown]
# ## What a prompt learns from text of a peculiar form
# WikiText-2 as it was released is tokenised: ` @-@ ` for a hyphen, `<unk>` for a rare word. A prompt learned on it can teach a model that form,
# whether it is compressed or not. The change in NLL, nats a token, by where the prompt was learned; `net` is what is left beyond the
# change on the uncompressed model.

# %%
pd.concat({run: claim.direct_prompts(one) for run, one in both.items()}).round(3)

# %% [markdown]
# ## What agrees
# The claims on which both runs come to the same verdict, and those on which they do not.

# %%
both_asked = verdicts.dropna()
same = both_asked.verdict == both_asked[f"verdict, {recorded}"]
print(f"{same.sum()} of {len(same)} verdicts agree: {', '.join(same.index[same])}")
for name, row in both_asked[~same].iterrows():
    print(f"{name}: {row.verdict} in this study, {row[f'verdict, {recorded}']} in the recorded run")
