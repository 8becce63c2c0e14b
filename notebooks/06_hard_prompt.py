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
# Does it help to tell a compressed model in words that its weights contain errors? Claim C1: such a hand-written ("hard") prompt improves some
# of its answers. The paper shows a few questions and answers of LLaMA-7B.
#
# We put the same prompts before the beginnings of held-out documents, at every level. Then we score the right continuation with and without
# the prompt. Any text before a document changes the prediction a little, for better or worse. So ten neutral texts of
# equal length serve as the control. We count a hard prompt as helpful only if it beats them.
#
# [With its tables and figures](../results/recorded/embedded/runs/06_hard_prompt/reference-s75.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"
level = "75%"

# %%
import pandas as pd

from ctp_lib.claims import c1_hard_prompt as claim
from ctp_lib.claims import seen, style
from ctp_lib.evaluation.subject import Subject, write_on
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.hard_prompt import vectors
from ctp_lib.results import cells
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level
from ctp_lib.text import selection

settings = study.load()
spec = settings.hard_prompt
tokenizer = Bench(settings, model, Level()).tokenizer
items = selection.beginnings(settings, tokenizer)

# %% [markdown]
# ## Score every item at every level
# `change`: the NLL of the right continuation with the text, minus the NLL without it. Below zero, the text helps.

# %%
rows = [row for at in settings.levels for row in claim.changes(Bench(settings, model, at), items)]
changes = pd.DataFrame(rows)
_ = cells.write(paths.question(settings, "written_prompts", model), {"model": model}, items=rows)

# %% [markdown]
# ## Helped and hurt
# `helped` is the share of items that the text helps. `lead` is how much lower the NLL is with the hard prompt than with a neutral text, in nats
# per token, on the same items: above zero is better. In brackets: the 95 % interval of that row alone, over other items and other neutral
# texts. The verdict's intervals hold for all rows together, so they are wider.

# %%
table = claim.table(changes)
seen.readable(table)

# %%
style.save(claim.figure(changes), paths.figures(settings, model), "2_hard_prompt")

# %%
seen.hard_prompt(table, changes.item.nunique())

# %% [markdown]
# ## What the models write
# We show the items that the paper's long prompt helps most and hurts most. Each is followed by what the models write.

# %%
name, text = next(iter(spec.texts.items()))
change = changes[(changes.level == level) & (changes.prompt == name) & (changes.text == "hard prompt")].set_index("item").change
full, compressed = (Bench(settings, model, Level.parse(at)).network for at in ("full", level))
writers = {settings.model(model).as_it_came: Subject(full), level: Subject(compressed)}
writers[f"{level} with the prompt"] = Subject(compressed, vectors(compressed, tokenizer, text))
shown = {"helped most": change.nsmallest(spec.show).index, "hurt most": change.nlargest(spec.show).index}

# %%
for title, numbers in shown.items():
    for number in numbers:
        context, right = items[number, : spec.context], items[number, spec.context :]
        print(f"=== {title}: {change[number]:+.2f} nats per token\n{tokenizer.decode(context)}\n--- right\n{tokenizer.decode(right)}")
        for writer, subject in writers.items():
            print(f"--- {writer}\n{write_on(subject, tokenizer, context, spec.continuation)}")

# %% [markdown]
# ## The paper's questions
# An instruction-tuned model can be asked directly, as in the paper. We add questions with known answers. The table counts right answers:
# alone, with the paper's long prompt, and with a neutral text. The embedded model is not tuned, so its table is empty.

# %%
asked = [row for at in ("full", level) for row in claim.answers(Bench(settings, model, Level.parse(at)), name)]
counted = pd.DataFrame(asked, columns=["level", "question", "text", "right", "answer"])
counted.groupby(["level", "text"], sort=False).right.agg(["sum", "count"]).set_axis(["right", "asked"], axis=1)

# %%
for row in asked[: 3 * spec.show]:
    print(f"{row['level']}, {row['text']}: {row['question']} -> {row['answer'].strip()!r}")

# %% [markdown]
# ## Verdict on C1
# Any text helps some items and hurts others. The question is whether the paper's prompts beat neutral text at every compressed level, by
# more than the margin.

# %%
verdict = claim.verdict(table, claim.costs(changes), settings.margins.nats)
verdict.write(settings, model)
verdict
