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
# Claim C7: the prompt learned on a broad corpus helps zero-shot tasks. The paper reports OpenBookQA, HellaSwag, PIQA and MMLU's European
# history; at 75 % sparsity HellaSwag rises from 0.280 to 0.344 and OpenBookQA falls from 0.366 to 0.358 (standard errors 0.005 and 0.022).
#
# The embedded study asks three tasks made from documentation, four choices each, through lm-eval: how a text goes on (held-out
# text, as HellaSwag), which summary a body belongs to (held-out text, as OpenBookQA), and which function does this, closed book, asked
# about text the model *was* trained on. The last is LLM-KICK's question: does the prompt bring back knowledge, or only fluency?
# Where a hub can be reached, put `openbookqa`, `hellaswag`, `piqa` or `mmlu_high_school_european_history` into `tasks.names` of your profile;
# tasks of your own, as YAML that lm-eval reads, lie in `tasks.folder`.
#
# [With its tables and figures](../results/recorded/embedded/runs/09_cross_task/reference.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"

# %%
from ctp_lib.claims import c7_cross_task as claim
from ctp_lib.claims import style
from ctp_lib.recovery import asking
from ctp_lib.recovery.bench import Bench
from ctp_lib.results import cells
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level

settings = study.load()
spec, broad = settings.tasks, settings.soft_prompt.corpus

# %% [markdown]
# ## The tasks
# The first item of each that is made here; a star marks the right answer.

# %%
for name, item in asking.prepare(settings).items():
    choices = "\n".join(f"  {'*' if n == item['label'] else ' '} {choice}" for n, choice in enumerate(item["choices"]))
    print(f"--- {name}\n{item.get('context') or item['text']}\n{choices}")

# %% [markdown]
# ## Ask them
# With and without the prompt the same items in the same window: the prompt's tokens come on top. Its keys and values are computed once.

# %%
rows = []
for bench in (Bench(settings, model, Level.parse(level)) for level in spec.levels):
    rows += asking.ask(bench, bench.learned(claim.NONE.name, settings.seed))
    for seed in spec.seeds:
        learned = bench.learned(claim.PROMPT.name, seed)
        rows += asking.ask(bench, learned, trained_on=broad, trained_at_level=str(bench.level), seed=seed)
cells.write(paths.question(settings, "cross_task", model), {"model": model}, tasks=rows)

# %% [markdown]
# ## With and without
# `difference` is that of the shares of right answers, with its 95 % interval from a paired bootstrap over the same items.

# %%
table = claim.table(rows)
table.round(3)

# %%
style.save(claim.figure(table), paths.figures(settings, model), "5_cross_task")

# %% [markdown]
# ## Verdict on C7

# %%
verdict = claim.verdict(table)
verdict.write(settings, model)
print(verdict)
