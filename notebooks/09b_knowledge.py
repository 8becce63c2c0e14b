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
# LLM-KICK (Jaiswal et al. 2023) says that perplexity hides the damage. The model loses knowledge first. It can still read an answer from a
# passage. A learned prompt lowers perplexity. Does it bring *knowledge* back, or fluency alone?
#
# We ask for the same facts in three ways. *Closed book*: the question alone. *In context*: a passage states the fact among three others.
# *Counterfactual*: the passage gives each of the four subjects the answer of another one. There, the passage's answer counts as right, and
# the true one as remembered. A model answers with the likeliest of four answers. Facts come in groups of four with the same four answers. So
# a model that always gives the same answer is right once in four.
#
# The facts come from Python packages: countries, chemical elements, and what the documentation says of functions and libraries. Each kind of
# fact is called a *relation*. Two of them are asked in the form of documentation. `function`: the model scores one summary behind four names.
# `library`: it scores the rest of a function's name behind four libraries. The likeliest wins. A relation counts only if the uncompressed model
# clearly remembers more than chance. The small model of the default study has read nothing but documentation, so it can know only those two.
# A name can give its function away: a rule that only compares letters gets 25 to 31 % of the functions right (chance: 25 %).
#
# [With its tables and figures](../results/recorded/embedded/runs/09b_knowledge/reference.ipynb), as last recorded.

# %% tags=["parameters"]
model = "reference"

# %%
import pandas as pd
from IPython.display import display

from ctp_lib.claims import kick_audit, seen, style
from ctp_lib.claims import knowledge as claim
from ctp_lib.claims import knowledge_figures as figures
from ctp_lib.claims.estimate import flat
from ctp_lib.compression import reached
from ctp_lib.evaluation import facts_items
from ctp_lib.recovery import auditing, comparison, knowing, scores
from ctp_lib.results import cells
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level

settings = study.load()
margins = settings.margins

# %% [markdown]
# ## The questions
# The first item of each relation: from memory, then with a passage that contradicts it. A star marks the right answer. The text is shown with
# that answer; a bar marks where the scored part begins.

# %%
for relation in settings.knowledge.relations:
    items = knowing.asked(settings, relation)
    for item in (items["closed_book"][0], items["counterfactual"][0]):
        context, scored = facts_items.pairs(item)[item["label"]]
        choices = ", ".join(f"{'*' if n == item['label'] else ''}{answer}" for n, answer in enumerate(item["answers"]))
        print(f"--- {relation}: {choices}\n{context}|{scored}\n")

# %% [markdown]
# ## Ask them
# Every level is asked without a repair; the levels of notebook 11 are also asked with repairs. The table gives the share of right answers, a
# column a level. In brackets: the 95 % interval of that row alone; one seed of something learned gives none. The verdict's intervals hold for
# all rows together, so they are wider.

# %%
asked = knowing.of_study(settings, model)
table = claim.table(cells.rows(asked, "facts"))
seen.readable(table.accuracy.unstack("level")[list(settings.knowledge.levels)], digits=2)

# %%
seen.knowledge(table)

# %% [markdown]
# More about the same answers. A level *matches* if it keeps at least 95 % of the uncompressed model's right answers (`at chance`: that one knows
# too little to say). `exact`: the share of items where greedy decoding gives the scored text. `remembered`: the true answer is the likeliest
# although the passage gives another. `n`: items.

# %%
table[["matches", "exact", "remembered", "n"]].unstack("form").dropna(axis=1, how="all").round(2)

# %% [markdown]
# ## The smallest change that can be detected
# `change` is the change in the share of right answers, by compression or by a repair. `detected`: we would notice a true change of this size in
# four of five studies. The verdicts use half of these facts, so their numbers differ.

# %%
seen.readable(claim.changes(table))

# %% [markdown]
# ## Knowledge and reading
# Up: more right answers with a true passage. Right: more from memory. An arrow leads from a compressed model to the repaired one. Dotted lines
# show chance.

# %%
style.save(figures.arrows(table, settings, settings.model(model).as_it_came), paths.figures(settings, model), "5b_knowledge")

# %% [markdown]
# ## How much compression is too much?
# The figure shows the right answers against the share of pruned weights (crosses: patterns such as 2:4), and against bits per weight.

# %%
style.save(figures.by_level(table, settings), paths.figures(settings, model), "5c_matching")

# %% [markdown]
# ## Summaries
# The first sentence of a documentation text serves as its summary; LLM-KICK uses CNN/DailyMail and a judge. `right`: how often the right
# summary is the likeliest of four. `nats` is its NLL per token. ROUGE compares it with the summary that the model generates.

# %%
summaries = claim.of_summaries(cells.rows(asked, "summaries"))
flat(summaries)[list(summaries)].round(3)

# %% [markdown]
# ## Other tasks
# These are the tasks of `knowledge.tasks`. LLM-KICK's own tasks need the hub, or files of yours.

# %%
others = pd.DataFrame(cells.rows(asked, "tasks")).drop(columns="units", errors="ignore")
display(seen.Said("This study names no other tasks.") if others.empty else others)

# %% [markdown]
# ## Small and dense, or large and sparse?
# Is it better to prune a large model, or to take a smaller one (`knowledge.smaller`)? We compare the two at about the same bytes: the pruned
# model's share of right answers from memory, minus the smaller model's. Of each pruning method, this is the mildest level that takes no more
# bytes than the smaller model. In the default study the smaller model is `second`, which was trained for a fifth as long.

# %%
levels = settings.knowledge.levels
stored = {level: reached.obtain(settings, model, Level.parse(level))["reached"]["stored_bytes"] for level in levels}
smaller, beside = knowing.smaller(settings, model), {}
if smaller:
    levels = claim.no_larger(stored, smaller["stored_bytes"])
    found = claim.beside_smaller(table, smaller["facts"])
    beside = {level: found[level] for level in levels if level in found}
    print(f"{smaller['cell']['model']}: {smaller['stored_bytes']:,} bytes")
    print(*(f"{level}: {stored[level]:,} bytes, {found.mean:+.3f}" for level, found in beside.items()), sep="\n")
else:
    print("This study names no smaller model.")

# %% [markdown]
# ## An audit of the released metrics
# LLM-KICK's released code counts some wrong answers as right, and misses some right ones. The table compares its metrics with exact ones, on
# questions about capitals.

# %%
audited = auditing.of_study(settings, model)
print(kick_audit.told(audited))
kick_audit.table(audited).round(3)

# %% [markdown]
# ## Verdicts
# We choose the relations and levels that vote on one half of the facts, and judge the claims on the other half. Otherwise chance would favour
# what was chosen. Reading is judged on the misleading passages, because with a true passage a remembered answer would look like reading.
# These relations vote:

# %%
for asked_of, form in (("memory", "closed_book"), ("reading", "counterfactual")):
    print(f"on {asked_of}: {', '.join(claim.known(table, form)) or 'no relation'}")

# %%
prompted = cells.rows(comparison.of_study(settings, model, [claim.PROMPT.name]))
none = cells.rows(scores.of_study(settings, model, []))
gains = claim.gains(prompted, none, settings.soft_prompt.corpus)
verdicts = claim.verdicts(table, gains, margins.accuracy, margins.nats, stored, beside)
for verdict in verdicts:
    verdict.write(settings, model)
seen.Said("\n\n".join(verdict.page() for verdict in verdicts))
