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
# and `dvc repro -f train_reference` train it again; a run that is killed goes on from its last checkpoint.

# %%
import math
import shutil
from dataclasses import asdict

import torch

from ctp_lib import corpora, experiments, figures, models, prompts, reference, results, study, tuning

settings = study.load()
shape, recipe = settings.reference_model.shape, settings.reference_model.training
folder = experiments.corpora_folder(settings)

# %% [markdown]
# ## Text and tokenizer

# %%
train = experiments.shuffled_documents(settings, "train")
tokenizer = reference.train_tokenizer(map(str, train), shape)
tokens = corpora.tokens(train, tokenizer)
print(f"{len(train):,} documents, {len(tokens):,} tokens of training text")

# %% [markdown]
# ## Training
# Muon for the matrices, AdamW for the rest; weight decay; a constant learning rate that falls to zero at the end.

# %%
model = reference.new_model(shape, settings.seed).to(models.device())
print(f"{models.parameter_count(model):,} parameters")
batches = corpora.shuffled_batches(tokens, shape.context, recipe.batch_windows, settings.seed)
broad = next(iter(settings.corpora.sources))
validation = corpora.windows(corpora.tokens(corpora.documents(folder, broad, "validation"), tokenizer), shape.context, 64)


def loss(windows: torch.Tensor) -> torch.Tensor:
    """Mean NLL of a batch, in bf16 where the machine has it."""
    windows = windows.to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=models.has_fast_bf16()):
        return prompts.token_nll(model, windows).mean()


checkpoint = settings.root / "models" / "checkpoints" / "reference.safetensors"
with results.measured("train") as cost:
    run = tuning.train(
        model,
        loss,
        batches,
        recipe,
        identity={"seed": settings.seed, "shape": asdict(shape), "text": experiments.digest(tokens, validation)},
        validate=lambda: experiments.validation_nll(model, validation, None),
        checkpoint=checkpoint,
        label="reference model",
        optimizers=reference.muon_and_adamw,
    )
cost.tokens, cost.seconds = run.tokens, run.seconds

# %% [markdown]
# ## Save
# Safetensors in 16 bits, under a temporary name until it is complete.

# %%
target = settings.root / "models" / "reference"
incoming = target.with_name("reference.incoming")
shutil.rmtree(incoming, ignore_errors=True)
model.half().save_pretrained(incoming)
tokenizer.save_pretrained(incoming)
(incoming / "README.md").write_text(reference.MODEL_CARD, encoding="utf-8")
shutil.rmtree(target, ignore_errors=True)
incoming.rename(target)
checkpoint.unlink(missing_ok=True)

# %% [markdown]
# ## What it is worth
# Bits per byte on the whole test splits, from the saved files, in the study's windows.

# %%
network = models.load_model(settings.model("reference"))
rows = experiments.perplexities(settings, network, tokenizer, method="none", level=study.Level(), at_most=10**9)
cell = {"model": "reference", "level": "full", "method": "none", "trained_on": "all", "seed": settings.seed}
results.write_cell(
    settings.root / "results" / "reference_model.json", cell, perplexity=rows, cost=[cost.record()], curve=run.curve, best_step=run.best_step
)
for row in rows:
    print(f"{row['evaluated_on']:18} {row['bits_per_byte']:.3f} bits per byte, perplexity {row['ppl']:.2f} a token, {row['windows']} windows")

# %%
figure = figures.training_curve(run.curve, tokens_per_byte=rows[0]["bits_per_byte"] / (rows[0]["nll"] / math.log(2)))
figures.save(figure, settings.root / "figures", "s0_reference_training")
