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
# # From one corpus to another
#
# Claim C5: a prompt learned on a broad corpus helps on others that it never saw; a prompt learned directly on one of those is better there
# and does not transfer. For LLaMA-7B at 3 bits the paper reports PTB 15.74 and C4 10.74 without a prompt; 10.81 and 7.48 with the
# one learned on C4; 294.16 and 160.64 with the one learned on WikiText-2.
#
# Here each of the three corpora takes its turn. The prompts of the broad one were learned in
# notebook 03; this one learns the others, directly on their corpus, and scores everything on everything.

# %% tags=["parameters"]
model = "reference"

# %%
from dataclasses import replace

from ctp_lib import claims, experiments, figures, learning, models, places, preflight, prompts, results, study, texts
from ctp_lib.compression import files
from ctp_lib.study import Level

settings = study.load()
spec, recipe = settings.model(model), settings.soft_prompt
preflight.check(settings, model, ["soft_prompt"])
tokenizer = models.load_tokenizer(spec)
scored = texts.scored_texts(settings, tokenizer)
others = [corpus for corpus in settings.corpora.sources if corpus != recipe.corpus]

# %% [markdown]
# ## Learn directly
# The same recipe, the same number of tokens; a small corpus is read more than once.

# %%
rows, costs, checkpoints = [], [], []
for level in map(Level.parse, settings.cross_dataset.levels):
    network, teacher = files.load(settings, model, level), learning.teacher(settings, model, level)
    for corpus in others:
        direct = replace(recipe, corpus=corpus)
        for seed in settings.cross_dataset.seeds:
            text = texts.training_text(settings, tokenizer, corpus, recipe.training, seed)
            checkpoint = places.checkpoint_path(settings, "direct", model, level, corpus, seed)
            with results.measured("train", seed=seed) as cost:
                prompt, run = learning.learn_prompt(
                    network,
                    direct,
                    text,
                    teacher=teacher,
                    seed=seed,
                    checkpoint=checkpoint,
                    label=f"{corpus}, {level}, seed {seed}",
                )
            cost.tokens, cost.seconds = run.tokens, run.seconds
            costs.append({"level": str(level), "trained_on": corpus, **cost.record()})
            checkpoints.append(checkpoint)
            prompts.save(prompt, places.direct_prompt_folder(settings, model, level, corpus, seed), spec, network)
            rows += experiments.score(
                network,
                scored,
                method="soft_prompt",
                prompt=prompt().detach(),
                level=str(level),
                trained_on=corpus,
                trained_at_level=str(level),
                seed=seed,
            )
results.write_cell(
    places.model_path(settings, "cross_dataset", model), {"model": model, "method": "soft_prompt"}, perplexity=rows, cost=costs
)
for checkpoint in checkpoints:
    checkpoint.unlink(missing_ok=True)

# %% [markdown]
# ## Everything on everything
# `gain` is the difference in NLL to the same model without a prompt (nats a token, negative is better), over the same windows.

# %%
cells = results.read_cells(settings, model, "compression", "soft_prompt", "cross_dataset")
table = claims.transfer_table(results.rows(cells), levels=settings.cross_dataset.levels, by="trained_on", seeds=recipe.seeds)
table[["ppl_none", "ppl", "recovered", "gain", "gain_stderr"]].round(4)

# %%
figures.save(figures.cross_dataset(table), places.figures_folder(settings, model), "3_cross_dataset")

# %% [markdown]
# ## Verdict on C5

# %%
verdict = claims.cross_dataset(table, broad=recipe.corpus)
verdict.write(settings, model)
print(verdict)
