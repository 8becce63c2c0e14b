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
# # The small models: a Llama that knows the documentation
#
# The study needs a model worth compressing that fits a laptop and needs no hub. This notebook makes it: a byte-level BPE and a
# Llama of a few million parameters, trained from scratch on the train splits of the three corpora.
#
# The model ships with the project, and no stage of the study makes it again. So this notebook refuses to replace an existing model unless
# `replace_it` is true. Training takes hours on two cores. A killed run goes on from its last checkpoint. Two others are made in the same way,
# to see whether a prompt works on another model with the same tokenizer: `sibling` is the reference model trained a little further on one
# corpus, and `second` a smaller model with another seed.

# %% tags=["parameters"]
name = "reference"
replace_it = False

# %%
import math
import shutil

from ctp_lib.appendix import small_models
from ctp_lib.claims import style
from ctp_lib.evaluation.perplexity import score
from ctp_lib.evaluation.subject import Subject
from ctp_lib.model import loading
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.results import cells
from ctp_lib.settings import paths, study
from ctp_lib.settings.spec import require
from ctp_lib.text import documents, selection, windows

settings = study.load()
spec, goal = settings.shipped_models[name], settings.root / "models" / name
require(replace_it or not goal.exists(), "replace_it", replace_it, f"True, since models/{name} exists and would be trained anew, for hours")

# %% [markdown]
# ## Text and tokenizer

# %%
before = settings.model(spec.continues) if spec.continues else None
train = selection.shuffled_documents(settings, "train", spec.corpora)
tokenizer = loading.load_tokenizer(before) if before else small_models.train_tokenizer(map(str, train), spec.shape)
tokens = windows.tokens(train, tokenizer)
print(f"{len(train):,} documents, {len(tokens):,} tokens of training text")

# %% [markdown]
# ## Training
# Muon for the matrices, AdamW for the rest; weight decay; a constant learning rate that falls to zero at the end.

# %%
device = loading.device(settings.device)
model = loading.load_model(before, on=device) if before else small_models.new_model(spec.shape, spec.seed).to(device)
model.requires_grad_(True)
print(f"{model.num_parameters():,} parameters")
first = next(iter(spec.corpora or settings.corpora.sources))
held_out = windows.tokens(documents.documents(paths.corpora(settings), first, "validation"), tokenizer)
validation = windows.windows(held_out, spec.shape.context, 64)
checkpoint = settings.root / "models" / "checkpoints" / f"{name}.safetensors"
run = small_models.train(model, tokens, validation, spec.training, seed=spec.seed, checkpoint=checkpoint, label=name)

# %% [markdown]
# ## Save
# The model is saved as safetensors in 16 bits, with a mark for every document it read, also before it was continued. It has a temporary name
# until it is complete.

# %%
with paths.replacing(goal) as incoming:
    model.half().save_pretrained(incoming)
    tokenizer.save_pretrained(incoming)
    documents.write_marks([*train, *(selection.shuffled_documents(settings, "train") if before else [])], incoming)
    shutil.copy(settings.root / "notebooks" / "appendix" / "model_card.md", incoming / "README.md")
checkpoint.unlink(missing_ok=True)

# %% [markdown]
# ## What it scores
# Bits per byte on the whole test splits, from the saved files, in the study's windows.

# %%
network = loading.load_model(settings.model(name), on=loading.device(settings.device))
rows = score(Subject(network), selection.scored_texts(settings, tokenizer, at_most=10**9), method=NONE.name, seed=spec.seed)
kept = settings.root / "results" / "recorded" / "small_models" / f"{name}.json"
cells.write(kept, {"model": name}, perplexity=rows, curve=run.curve, best_step=run.best_step, seconds=run.seconds)
for row in rows:
    print(f"{row['evaluated_on']:18} {row['bits_per_byte']:.3f} bits per byte, perplexity {row['ppl']:.2f} a token")

# %%
tokens_per_byte = rows[0]["bits_per_byte"] / (rows[0]["nll"] / math.log(2))
figure = small_models.training_curve(run.curve, tokens_per_byte, name=name)
style.save(figure, settings.root / "figures" / "recorded" / "small_models", f"{name}_training")
