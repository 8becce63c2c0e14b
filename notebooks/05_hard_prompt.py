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
# # The observation that started it: telling the model that it is compressed
#
# Claim C1: a hand-written prompt that tells a compressed model that its weights contain errors improves some of its answers,
# and not others. The paper shows a few questions and answers of LLaMA-7B.
#
# Here the same prompts stand before the beginnings of held-out documents, at every level, and the right continuation is scored with and
# without. Any text before a document changes the prediction a little, for better or worse; so a neutral text of equal length is the
# control, and a hard prompt counts only where it beats that.

# %% tags=["parameters"]
model = "reference"

# %%
import pandas as pd

from ctp_lib import claims, figures, models, places, preflight, prompts, results, study, texts
from ctp_lib.compression import files
from ctp_lib.evaluation.continuation import continuation_nll, write_on

settings = study.load()
spec = settings.hard_prompt
preflight.check(settings, model, ["evaluate"])
tokenizer = models.load_tokenizer(settings.model(model))
items = texts.beginnings(settings, tokenizer)

# %% [markdown]
# ## Score every item at every level
# `change` is the NLL of the right continuation with the text before it, less that without: below zero it helps.

# %%
rows = []
for level in settings.levels:
    network = files.load(settings, model, level)
    none = continuation_nll(network, items, spec.continuation)
    for name, text in spec.texts.items():
        for kind, before in (
            ("hard prompt", prompts.hard_prompt(network, tokenizer, text)),
            ("neutral", prompts.hard_prompt(network, tokenizer, spec.neutral, like=text)),
        ):
            changes = continuation_nll(network, items, spec.continuation, before) - none
            rows += [
                {"level": str(level), "prompt": name, "text": kind, "item": item, "prompt_tokens": len(before), "change": change}
                for item, change in enumerate(changes.tolist())
            ]
changes = pd.DataFrame(rows)
results.write_cell(places.model_path(settings, "hard_prompt", model), {"model": model, "method": "hard_prompt"}, items=rows)

# %% [markdown]
# ## Helped and hurt
# The share of items that the text helps, and by how much the hard prompt beats the neutral one on the same items.

# %%
table = claims.hard_prompt_table(changes)
table.round(4)

# %%
figures.save(figures.hard_prompts(changes), places.figures_folder(settings, model), "2_hard_prompt")

# %% [markdown]
# ## What the models write
# The items that the paper's long prompt helps and hurts most, and how each model goes on by itself.

# %%
full, compressed = (files.load(settings, model, study.Level.parse(level)) for level in ("full", spec.show_level))
name, text = next(iter(spec.texts.items()))
at = (
    changes[(changes.level == spec.show_level) & (changes.prompt == name) & (changes.text == "hard prompt")]
    .set_index("item")
    .change
)
shown = {"helped most": at.nsmallest(spec.show).index, "hurt most": at.nlargest(spec.show).index}
for title, numbers in shown.items():
    for number in numbers:
        context, right = items[number, : spec.context], items[number, spec.context :]
        print(f"=== {title}: {at[number]:+.2f} nats a token\n{tokenizer.decode(context)}\n--- right\n{tokenizer.decode(right)}")
        print(f"--- uncompressed\n{write_on(full, tokenizer, context, spec.continuation)}")
        print(f"--- {spec.show_level}\n{write_on(compressed, tokenizer, context, spec.continuation)}")
        before = prompts.hard_prompt(compressed, tokenizer, text)
        print(f"--- {spec.show_level} behind the prompt\n{write_on(compressed, tokenizer, context, spec.continuation, before)}\n")

# %% [markdown]
# ## Verdict on C1
# Some items are always helped and some hurt. The claim holds where a hard prompt of the paper beats the neutral text at every compressed
# level, is mixed where it does at some, and does not hold where it does nowhere.

# %%
verdict = claims.hard_prompt(table)
verdict.write(settings, model)
print(verdict)
