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
# The paper's evaluation puts a label of -100 on the n positions of the prompt, takes the cross-entropy of every position (0 where
# the label is -100), and averages over *all* of them. The sum runs over the L - 1 real tokens of a window, the divisor is
# n + L - 1. So it prints exp(NLL (L - 1) / (n + L - 1)): the longer the prompt, the lower the figure, whatever the prompt does. The
# model without a prompt and the LoRA baseline are divided by L - 1.
#
# Here both figures stand side by side: for our prompts by length, learned and *untrained* (the embeddings of the first n ids of the
# vocabulary), and for the paper's own rows, recomputed.

# %% tags=["parameters"]
model = "reference"
level = "75%"

# %%
import pandas as pd

from ctp_lib import claims, experiments, figures, models, places, preflight, published, results, study, texts
from ctp_lib.compression import files
from ctp_lib.prompts import SoftPrompt

settings = study.load()
preflight.check(settings, model, ["evaluate"])
tokenizer = models.load_tokenizer(settings.model(model))
network = files.load(settings, model, study.Level.parse(level))
broad = settings.soft_prompt.corpus
scored = texts.scored_texts(settings, tokenizer, of=[broad])

# %% [markdown]
# ## Our prompts
# The learned ones come from notebook 09, where prompts of several lengths were learned.

# %%
untrained = []
for tokens in settings.comparison.prompt_tokens:
    prompt = SoftPrompt.from_vocabulary(network, tokens, "first", settings.seed)().detach()
    untrained += experiments.score(network, scored, method="soft_prompt", prompt=prompt, prompt_kind="untrained")
learned = [
    {**row, "prompt_kind": "learned"}
    for row in results.rows(results.read_cells(settings, model, "comparison"))
    if row["method"] == "soft_prompt" and row["level"] == level and row["evaluated_on"] == broad and row["best_rate"]
]
none = {
    row["level"]: row["ppl"]
    for row in results.rows(results.read_cells(settings, model, "compression"))
    if row["evaluated_on"] == broad
}
ours = claims.audit_table([*untrained, *learned], none=none[level], full=none["full"])
results.write_cell(
    places.model_path(settings, "metric_audit", model),
    {"model": model, "level": level, "method": "soft_prompt"},
    perplexity=untrained,
)
ours.round(3)

# %% [markdown]
# ## The paper's rows
# Printed against LoRA, at 3 bits. If they were made by the released code with n = 100 and L = 1,024, then `exact` is what stands behind
# them. Whether they were cannot be known from outside; for the LLaMA-7B tables n is not stated, so those are left as they are.

# %%
theirs = pd.DataFrame(published.LORA_3BIT)
theirs["exact"] = theirs.soft_prompt.map(published.exact)
theirs.round(2)

# %%
figure = figures.audit(ours, theirs, none=none[level], full=none["full"])
figures.save(figure, places.figures_folder(settings, model), "8_metric_audit")

# %% [markdown]
# ## What follows

# %%
verdict = claims.metric(ours, theirs, none=none[level], full=none["full"])
verdict.write(settings, model)
print(verdict)
