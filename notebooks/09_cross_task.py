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
# # From text to tasks
#
# Does a prompt that was learned on text help with questions? Claim C7: it helps zero-shot tasks. The paper reports OpenBookQA, HellaSwag, PIQA
# and MMLU's European history; at 75 % sparsity HellaSwag rises from 0.280 to 0.344 and OpenBookQA falls from 0.366 to 0.358 (standard errors
# 0.005 and 0.022).
#
# The embedded study makes three tasks from documentation. Each has four choices, and lm-eval asks them.
#
# | task | the question | the text |
# |---|---|---|
# | continuation, like HellaSwag | How does the text go on? | held out |
# | summary, like OpenBookQA | Which summary belongs to this text? | held out |
# | recall, closed book | Which function does a description fit? | to be answered from memory; the small model saw it in training |
#
# The last one is LLM-KICK's question: does the prompt bring back knowledge, or only fluency?
#
# If you can reach the Hugging Face Hub, put `openbookqa`, `hellaswag`, `piqa` or `mmlu_high_school_european_history` into `tasks.names` of
# your study. For tasks of your own, set `tasks.folder` to a folder with their lm-eval YAML.
#
# [With its tables and figures](../results/recorded/embedded/runs/09_cross_task/reference.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"

# %%
from ctp_lib.claims import c7_cross_task as claim
from ctp_lib.claims import seen, style
from ctp_lib.recovery import asking
from ctp_lib.recovery.bench import Bench
from ctp_lib.results import cells, curves
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level

settings = study.load()
spec, broad = settings.tasks, settings.soft_prompt.corpus

# %% [markdown]
# ## The tasks
# This is the first item of each. A star marks the right answer.

# %%
for name, item in asking.prepare(settings, settings.tasks.names, settings.tasks.items).items():
    choices = "\n".join(f"  {'*' if n == item['label'] else ' '} {choice}" for n, choice in enumerate(item["choices"]))
    print(f"--- {name}\n{item.get('context') or item['text']}\n{choices}")

# %% [markdown]
# ## Ask them
# The questions are the same with and without a prompt, and the prompt does not shorten them.

# %%
rows = []
for bench in (Bench(settings, model, Level.parse(level)) for level in spec.levels):
    rows += asking.ask(bench, bench.learned(claim.NONE.name, settings.seed))
    for seed in spec.seeds:
        learned = bench.learned(claim.PROMPT.name, seed)
        rows += asking.ask(bench, learned, trained_on=broad, trained_at_level=str(bench.level), seed=seed)
_ = cells.write(paths.question(settings, "cross_task", model), {"model": model}, tasks=rows)

# %% [markdown]
# ## With and without
# `without` and `prompted` are shares of right answers. `gain` is how much the prompt raises them, and `cost` is how much compression lowers
# them. In brackets: the 95 % interval of that row alone; one seed of something learned gives none. The verdict's intervals hold for all rows
# together, so they are wider.
#
# One half of the items says where compression costs something (`cost_of_half`), and only those cells vote. The other half says what the
# prompt gives there (`gain_of_half`). So the verdict's numbers differ from `gain`.

# %%
table = claim.table(rows)
seen.readable(table)

# %%
style.save(claim.figure(table), paths.figures(settings, model), "5_cross_task")

# %%
seen.tasks(table)

# %% [markdown]
# ## Verdict on C7

# %%
verdict = claim.verdict(table, settings.margins.accuracy, curves.still_learning(settings, model, claim.PROMPT.name, spec.levels))
verdict.write(settings, model)
verdict
