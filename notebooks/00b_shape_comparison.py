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
# # The shape of the reference model: wide or deep?
#
# Four million parameters can stand in a few wide layers or in many narrow ones. A prompt acts through attention, layer by layer, so
# depth may help it; a compressed model has to suffer enough for a prompt to have something to repair. This notebook trains candidates of
# equal size on equal text, compresses each, learns a prompt for each, and compares.
#
# Like the model itself, the comparison is repeated only when its settings change, or by `dvc repro -f compare_shapes`.

# %%
import tempfile
from dataclasses import asdict, replace

import pandas as pd

from ctp_lib import corpora, learning, models, places, reference, results, study, texts, tuning
from ctp_lib.compression import recipes
from ctp_lib.evaluation.perplexity import bits_per_byte, perplexity

settings = study.load()
comparison, recipe = settings.shape_comparison, settings.shape_comparison.prompt
spec = replace(settings.shipped_models["reference"].training, steps=comparison.steps)
folder, broad = places.corpora_folder(settings), recipe.corpus

# %%
documents = texts.shuffled_documents(settings, "train")
tokenizer = reference.train_tokenizer(map(str, documents), next(iter(comparison.shapes.values())))
tokens = corpora.tokens(documents, tokenizer)
calibration = texts.calibration_windows(settings, tokenizer)
scored = texts.scored_texts(settings, tokenizer, of=[broad])[broad]

# %% [markdown]
# ## One shape: train, compress, learn a prompt


# %%
def trained(name: str) -> tuple[models.PreTrainedModel, tuning.TrainingRun]:
    """A model of this shape after the comparison's steps."""
    model = reference.new_model(comparison.shapes[name], settings.seed).to(models.device())
    context = model.config.max_position_embeddings
    validation = corpora.windows(corpora.tokens(corpora.documents(folder, broad, "validation"), tokenizer), context, 32)
    checkpoint = places.checkpoint_path(settings, "shape", name)
    return model, reference.train(model, tokens, validation, spec, seed=settings.seed, checkpoint=checkpoint, label=name)


def prompted(network: models.PreTrainedModel, name: str, level: study.Level, seed: int) -> tuple[float, float]:
    """NLL of the test with a prompt that was learned for this network, and the tokens a second it was learned with."""
    text = texts.training_text(settings, tokenizer, broad, recipe.training, seed)
    checkpoint, label = places.checkpoint_path(settings, "shape", name, level, seed), f"prompt, {name}, {level}, seed {seed}"
    prompt, run = learning.learn_prompt(network, recipe, text, seed=seed, checkpoint=checkpoint, label=label)
    return perplexity(network, scored.windows, prompt().detach()).nll, run.tokens / run.seconds


# %% [markdown]
# ## All of them

# %%
rows = []
for name in comparison.shapes:
    model, run = trained(name)
    full = perplexity(model.eval().requires_grad_(False), scored.windows)
    shared = {
        "shape": name,
        "parameters": models.parameter_count(model),
        "tokens": run.tokens,
        "bits_per_byte": bits_per_byte(full, scored.bytes_per_token),
        "training_tokens_per_second": run.tokens / run.seconds,
    }
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        for level in map(study.Level.parse, comparison.levels):
            network = recipes.compress(models.load_model(study.ModelSpec(saved)), level, calibration, settings.compression)
            none = perplexity(network, scored.windows).nll
            for seed in recipe.seeds:
                nll, speed = prompted(network, name, level, seed)
                rows.append(
                    {
                        **shared,
                        "level": str(level),
                        "seed": seed,
                        "cost_nats": none - full.nll,
                        "gain_nats": none - nll,
                        "prompt_tokens_per_second": speed,
                    }
                )

# %% [markdown]
# ## The comparison
# `cost` is what compression takes and `gain` what the prompt gives back, both in nats a token on the broad test split;
# `gain_spread` is the standard deviation over seeds.

# %%
cell = {
    "comparison": "shape",
    "settings": asdict(comparison),
    "compression": asdict(settings.compression),
    "evaluation": asdict(settings.evaluation),
    "seed": settings.seed,
}
results.write_cell(settings.root / "results" / "shape_comparison.json", cell, shapes=rows)
for leftover in places.checkpoint_path(settings, "shape").parent.glob("shape-*"):
    leftover.unlink()
shapes = pd.DataFrame(rows).groupby(["shape", "level"], sort=False)
table = shapes.mean().drop(columns="seed").assign(gain_spread=shapes.gain_nats.std())
table["recovered_nats_share"] = table.gain_nats / table.cost_nats
table.round(3)
