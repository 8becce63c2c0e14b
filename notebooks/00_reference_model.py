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
# # The reference model: a small Llama that knows the documentation
#
# The study needs a model worth compressing that fits a laptop and needs no hub. This notebook makes it: a byte-level BPE and a
# Llama of a few million parameters, trained from scratch on the train splits of the three corpora.
#
# It ships with the project, and its stage depends on nothing but its settings, so an ordinary run leaves it alone. `dvc repro corpora`
# and `dvc repro -f train@reference` train it again; a run that is killed goes on from its last checkpoint. A second, smaller model of another
# seed is made in the same way, for the question whether a prompt works on another model with the same tokenizer.

# %% tags=["parameters"]
name = "reference"

# %%
import math

from ctp_lib import corpora, experiments, figures, models, places, reference, results, study, texts

settings = study.load()
spec = settings.shipped_models[name]
shape, recipe = spec.shape, spec.training
folder = places.corpora_folder(settings)

# %% [markdown]
# ## Text and tokenizer

# %%
train = texts.shuffled_documents(settings, "train")
tokenizer = reference.train_tokenizer(map(str, train), shape)
tokens = corpora.tokens(train, tokenizer)
print(f"{len(train):,} documents, {len(tokens):,} tokens of training text")

# %% [markdown]
# ## Training
# Muon for the matrices, AdamW for the rest; weight decay; a constant learning rate that falls to zero at the end.

# %%
model = reference.new_model(shape, spec.seed).to(models.device())
print(f"{models.parameter_count(model):,} parameters")
broad = next(iter(settings.corpora.sources))
validation = corpora.windows(corpora.tokens(corpora.documents(folder, broad, "validation"), tokenizer), shape.context, 64)
checkpoint = places.checkpoint_path(settings, "shipped", name)
with results.measured("train") as cost:
    run = reference.train(model, tokens, validation, recipe, seed=spec.seed, checkpoint=checkpoint, label=name)
cost.tokens, cost.seconds = run.tokens, run.seconds

# %% [markdown]
# ## Save
# Safetensors in 16 bits, under a temporary name until it is complete.

# %%
target = settings.root / "models" / name
with places.replacing(target) as incoming:
    model.half().save_pretrained(incoming)
    tokenizer.save_pretrained(incoming)
    (incoming / "README.md").write_text(reference.MODEL_CARD, encoding="utf-8")
checkpoint.unlink(missing_ok=True)

# %% [markdown]
# ## What it is worth
# Bits per byte on the whole test splits, from the saved files, in the study's windows.

# %%
network = models.load_model(settings.model(name))
rows = experiments.score(network, texts.scored_texts(settings, tokenizer, at_most=10**9), method="none", seed=spec.seed)
cell = {"model": name, "level": "full"}
results.write_cell(
    places.model_path(settings, "shipped_models", name),
    cell,
    perplexity=rows,
    cost=[cost.record()],
    curve=run.curve,
    best_step=run.best_step,
)
for row in rows:
    print(
        f"{row['evaluated_on']:18} {row['bits_per_byte']:.3f} bits per byte, perplexity {row['ppl']:.2f} a token, {row['windows']} windows"
    )

# %%
figure = figures.training_curve(run.curve, tokens_per_byte=rows[0]["bits_per_byte"] / (rows[0]["nll"] / math.log(2)), name=name)
figures.save(figure, places.figures_folder(settings, name), "s0_training")
