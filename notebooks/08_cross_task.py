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
# history; at 75 % sparsity HellaSwag rises from 0.280 to 0.344 and OpenBookQA falls from 0.366 to 0.358, with standard errors of 0.005 and 0.022.
#
# The embedded study asks three tasks made from documentation, four choices each, through lm-eval: how a text goes on (held-out
# text, as HellaSwag), which summary a body belongs to (held-out text, as OpenBookQA), and which function does this, closed book, asked
# about text the model *was* trained on. The last is LLM-KICK's question: does the prompt bring back knowledge, or only fluency?
# Where a hub can be reached, put `openbookqa`, `hellaswag`, `piqa` or `mmlu_high_school_european_history` into `tasks.names` of your profile;
# tasks of your own, as YAML that lm-eval reads, lie in `tasks.folder`.

# %% tags=["parameters"]
model = "reference"

# %%
from ctp_lib import claims, corpora, figures, models, places, preflight, prompts, results, study
from ctp_lib.compression import files
from ctp_lib.evaluation import documentation_tasks, zero_shot
from ctp_lib.evaluation.perplexity import TOKENS_AT_ONCE
from ctp_lib.study import Level

settings = study.load()
spec, recipe = settings.tasks, settings.soft_prompt
preflight.check(settings, model, ["evaluate"])
tokenizer = models.load_tokenizer(settings.model(model))
shapes = preflight.on_shapes(settings.model(model))
learned = {
    (level, seed): prompts.load(places.prompt_folder(settings, model, Level.parse(level), seed), shapes)().detach()
    for level in spec.levels
    for seed in spec.seeds
}

# %% [markdown]
# ## The tasks

# %%
folder = places.tasks_folder(settings)
folders = [folder, *([settings.root / spec.folder] if spec.folder else [])]
for name in spec.names:
    if name in documentation_tasks.MAKERS:
        documents = corpora.documents(places.corpora_folder(settings), recipe.corpus, documentation_tasks.MAKERS[name][1])
        item = documentation_tasks.write(name, documents, folder, items=spec.items, seed=settings.seed)
        print(
            f"--- {name}\n{item.get('context') or item['text']}\n"
            + "\n".join(f"  {'*' if n == item['label'] else ' '} {c}" for n, c in enumerate(item["choices"]))
        )

# %% [markdown]
# ## Ask them
# With and without the prompt the same items in the same window: the prompt's tokens come on top. Its keys and values are computed once.

# %%
rows = []
for level in map(Level.parse, spec.levels):
    network = files.load(settings, model, level)
    window = models.context(network) - recipe.prompt_tokens
    for seed in (None, *spec.seeds):
        method = (
            {"method": "none"}
            if seed is None
            else {"method": "soft_prompt", "trained_on": recipe.corpus, "trained_at_level": str(level), "seed": seed}
        )
        for score in zero_shot.evaluate(
            network,
            tokenizer,
            spec.names,
            folders,
            max_length=window,
            tokens_at_once=TOKENS_AT_ONCE[network.device.type],
            prompt=learned.get((str(level), seed)),
            limit=spec.items,
        ):
            rows.append({"level": str(level), **method, **score.record()})
results.write_cell(places.model_path(settings, "cross_task", model), {"model": model}, tasks=rows)

# %% [markdown]
# ## With and without
# `difference` is that of the shares of right answers, with its 95 % interval from a paired bootstrap over the same items.

# %%
table = claims.task_table(rows)
table.round(3)

# %%
figures.save(figures.tasks(table), places.figures_folder(settings, model), "5_cross_task")

# %% [markdown]
# ## Verdict on C7

# %%
verdict = claims.cross_task(table)
verdict.write(settings, model)
print(verdict)
