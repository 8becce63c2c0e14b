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
# # From one compression level to another
#
# Claim C6: a prompt learned at one level helps at another, also across families; from more to less compressed works best. The paper
# draws it for LLaMA-7B, pruned to quantised and back.
#
# The prompt of every level, and that of the uncompressed model, goes before every other level. A prompt
# that was learned on the *uncompressed* model is the control: what it gives is not repair.

# %% tags=["parameters"]
model = "reference"

# %%
from ctp_lib import claims, experiments, figures, models, places, preflight, prompts, results, study, texts
from ctp_lib.compression import files

settings = study.load()
preflight.check(settings, model, ["evaluate"])
tokenizer = models.load_tokenizer(settings.model(model))
broad = settings.soft_prompt.corpus
scored = texts.scored_texts(settings, tokenizer, of=[broad])

# %% [markdown]
# ## Stitch
# What lies on the diagonal, a prompt on its own level, was scored in notebook 03.

# %%
rows = []
for level in settings.levels:
    network = files.load(settings, model, level)
    for source in settings.levels:
        for seed in settings.cross_compression.seeds if source != level else ():
            prompt = prompts.load(places.prompt_folder(settings, model, source, seed), network)().detach()
            rows += experiments.score(
                network,
                scored,
                method="soft_prompt",
                prompt=prompt,
                level=str(level),
                trained_on=broad,
                trained_at_level=str(source),
                seed=seed,
            )
results.write_cell(
    places.model_path(settings, "cross_compression", model), {"model": model, "method": "soft_prompt"}, perplexity=rows
)

# %% [markdown]
# ## The matrix
# Rows: where the prompt was learned. Columns: where it is used. `gain` as everywhere: negative is better.

# %%
cells = results.read_cells(settings, model, "compression", "soft_prompt", "cross_compression")
table = claims.transfer_table(
    results.rows(cells),
    levels=settings.study.levels,
    by="trained_at_level",
    seeds=settings.cross_compression.seeds,
    evaluated_on=broad,
)
table.gain.unstack("level")[list(settings.study.levels)].loc[list(settings.study.levels)].round(3)

# %%
figures.save(figures.cross_compression(table, settings.study.levels), places.figures_folder(settings, model), "4_cross_compression")

# %% [markdown]
# ## More to less, or less to more?
# Levels are ordered by what they cost without a prompt. A transferred gain is set against the gain of the level's own prompt.

# %%
directions = claims.directions(table)
directions.round(3)

# %% [markdown]
# ## Verdict on C6

# %%
verdict = claims.cross_compression(table)
verdict.write(settings, model)
print(verdict)
