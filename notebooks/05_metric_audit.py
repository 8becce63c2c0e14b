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
# # What the released code measures
#
# Does the released code measure perplexity? A prompt has n vectors, a window L tokens. The paper's evaluation labels the n positions with
# -100, so their loss is 0. Then it adds up the loss of the L - 1 real tokens, and divides by n + L - 1, the number of *all* positions. So it
# prints exp(NLL (L - 1) / (n + L - 1)), and a longer prompt gives a lower figure, even if it does nothing. For n = 100 and L = 256, it prints
# a perplexity of 30 as 11.5. The model without a prompt and the LoRA baseline are divided by L - 1.
#
# Here we show both figures side by side, for our own prompts, learned and *untrained* (the embeddings of the first n ids of the
# vocabulary). Then we recompute the paper's own rows.
#
# [With its tables and figures](../results/recorded/embedded/runs/05_metric_audit/reference-s75.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"
level = "75%"

# %%
import pandas as pd

from ctp_lib.claims import metric_audit as claim
from ctp_lib.claims import paper, style
from ctp_lib.recovery import comparison, scores
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import Prompt, SoftPrompt
from ctp_lib.results import cells
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level

settings = study.load()
bench, broad = Bench(settings, model, Level.parse(level)), settings.soft_prompt.corpus

# %% [markdown]
# ## Untrained prompts

# %%
untrained = []
for tokens in settings.comparison.prompt_tokens:
    prompt = Prompt(SoftPrompt.from_vocabulary(bench.network, tokens, "first", settings.seed)())
    prompt.method = claim.PROMPT.name
    untrained += bench.score(prompt, of=[broad], prompt_kind="untrained")
_ = cells.write(paths.question(settings, "metric_audit", model), {"model": model}, perplexity=untrained)
pd.DataFrame(untrained)[["prompt_tokens", "ppl", "ppl_released"]].round(2)

# %% [markdown]
# ## Learned prompts, for comparison
# The comparison of notebook 10 has prompts of several lengths. We take those.

# %%
compared = cells.rows([comparison.obtain(settings, model, bench.level, claim.PROMPT.name)])
best = [row for row in compared if row["trained_at_level"] == level]
learned = [{**row, "prompt_kind": "learned"} for row in best if row["evaluated_on"] == broad]
rows = cells.rows([scores.obtain(settings, model, at, NONE.name) for at in (Level.parse(level), Level())])
none, full = (row["ppl"] for row in rows if row["evaluated_on"] == broad)
ours = claim.table([*untrained, *learned], none=none, full=full)
ours.round(3)

# %% [markdown]
# ## The paper's rows
# These are the paper's rows against LoRA, at 3 bits: perplexity without anything, with a prompt, and with a LoRA of rank 32; sizes are in
# millions of parameters. If the released code printed them with n = 100 and L = 1,024, then `exact` is the true
# perplexity. We cannot know whether it did. For the LLaMA-7B tables n is not stated, so we leave those as they are.

# %%
theirs = pd.DataFrame(paper.LORA_3BIT)
theirs["exact"] = theirs.prompt.map(paper.exact)
theirs.round(2)

# %%
figure = claim.figure(ours, theirs, none=none, full=full, uncompressed=settings.model(model).as_it_came)
style.save(figure, paths.figures(settings, model), "8_metric_audit")

# %% [markdown]
# ## What follows

# %%
print(claim.told(ours, theirs, none=none, full=full))
