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
# # Knowledge or fluency?
#
# LLM-KICK (Jaiswal et al. 2023) says that perplexity hides what compression destroys: knowledge falls first, while reading from a given
# passage holds. A learned prompt lowers perplexity. Does it bring *knowledge* back, or fluency alone?
#
# We ask for the same facts in three ways. *Closed book*: the question alone. *In context*: a passage states the fact among three others.
# *Counterfactual*: the passage gives each of the four subjects the answer of another one. There, an answer by the passage counts as right,
# and one from memory as remembered. A model answers with the likeliest of four answers. The four answers belong to four facts, so each is
# right once, and an answer alone gives nothing away: guessing gets one in four right.
#
# The facts come from packages: countries, chemical elements, and what the documentation says of functions and libraries. A relation votes
# only where the uncompressed model certainly remembers more than chance. The small model of the default study has read nothing but
# documentation.
#
# [With its tables and figures](../results/recorded/embedded/runs/09b_knowledge/reference.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"

# %%
from ctp_lib.claims import knowledge as claim
from ctp_lib.claims import style
from ctp_lib.claims.estimate import flat
from ctp_lib.recovery import comparison, knowing, scores
from ctp_lib.results import cells
from ctp_lib.settings import paths, study

settings = study.load()
margins = settings.margins

# %% [markdown]
# ## The questions
# The first item of each relation: from memory, then against a passage. A star marks what counts as right.

# %%
for relation in settings.knowledge.relations:
    items = knowing.asked(settings, relation)
    for item in (items["closed_book"][0], items["counterfactual"][0]):
        choices = ", ".join(f"{'*' if n == item['label'] else ''}{choice}" for n, choice in enumerate(item["choices"]))
        print(f"--- {relation}\n{item['context']} {choices}\n")

# %% [markdown]
# ## Ask them
# At every level alone, and behind repairs where notebook 11 compares those. `exact` is the share of items where the model, writing
# greedily, would begin with the right answer.

# %%
rows = cells.rows(knowing.of_study(settings, model), "rows")
table = claim.table(rows)
flat(table.drop(columns="above")).round(3)

# %% [markdown]
# ## Knowledge and reading
# Up is better reading, right is better memory. Dotted lines show chance.

# %%
style.save(claim.figure(table, settings, settings.model(model).as_it_came), paths.figures(settings, model), "5b_knowledge")

# %% [markdown]
# ## Verdicts
# A level *matches* while it has at least 95 % of the uncompressed model's right answers. These relations vote:

# %%
print(", ".join(claim.known(table)) or "no relation")

# %%
prompted = cells.rows(comparison.of_study(settings, model, [claim.PROMPT.name]))
none = cells.rows(scores.of_study(settings, model, []))
gains = claim.gains(prompted, none, settings.soft_prompt.corpus)
for verdict in claim.verdicts(table, gains, margins.accuracy, margins.nats):
    verdict.write(settings, model)
    print(verdict, "\n")
