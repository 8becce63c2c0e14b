"""A model at a level, with all that learning and scoring need; what is missing is made, what is there is taken."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.compression import saved
from ctp_lib.evaluation.perplexity import score
from ctp_lib.model import divergence, likelihood, loading
from ctp_lib.model.divergence import Teacher
from ctp_lib.recovery.base import Learned
from ctp_lib.recovery.lesson import Lesson
from ctp_lib.recovery.training import TrainingRun
from ctp_lib.results import cells
from ctp_lib.settings import digests, paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study
from ctp_lib.text import documents, selection
from ctp_lib.text.selection import ScoredText


@dataclasses.dataclass
class Bench:
    """``model`` (a name, a folder or a hub id) at ``level``."""

    study: Study
    model: str
    level: Level

    @cached_property
    def network(self) -> PreTrainedModel:
        """The compressed model, frozen, where it is computed."""
        network = saved.load(self.study, self.model, self.level, on=loading.place(self.study.device))
        longest = self.study.evaluation.window + self.study.soft_prompt.prompt_tokens
        loading.check_fit(network, self.tokenizer, longest)
        likelihood.check_prompt_cache(network)
        return network

    @cached_property
    def teacher(self) -> Teacher:
        """The uncompressed model, from which what is learned here is distilled, and from which the divergence is counted."""
        spec = self.study.model(self.model)
        made_by = [saved.source(spec), digests.code([Path(divergence.__file__)])]
        kept = paths.known(self.study, self.model) / digests.short(made_by)
        return Teacher(loading.load_model(spec, on=loading.place(self.study.device)), kept)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's own."""
        return loading.load_tokenizer(self.study.model(self.model))

    @cached_property
    def scored(self) -> dict[str, ScoredText]:
        """The test text of every corpus, none of which the model was trained on."""
        documents.check_unread(self.study, self.study.model(self.model))
        return selection.scored_texts(self.study, self.tokenizer)

    def lesson(self, name: str, seed: int, own: Any = None, corpus: str | None = None) -> Lesson:
        """How method ``name`` is taught here with ``seed``: with ``own`` settings and on ``corpus``, or as the study has it."""
        return Lesson(self.study, self.model, self.level, name, seed, own, corpus)

    def learned(
        self, name: str, seed: int, *, goal: Path | None = None, label: str = "", onto: PreTrainedModel | None = None, **other: Any
    ) -> Learned:
        """What method ``name`` learns here with ``seed``: from ``goal``, its folder, or learned now, under a bar with ``label``.

        It is read for the network ``onto``, so that this level's own need not be loaded; what is ``other`` than in the study, ``own`` settings
        or ``corpus``, is that of :meth:`lesson`.
        """
        lesson, goal = self.lesson(name, seed, **other), goal or paths.learned(self.study, self.model, self.level, name, seed)
        about = goal / paths.LEARNED
        if found := cells.known(about, lesson.identity):
            cells.check_files(about)
            learned = lesson.method.load(goal, self.network if onto is None else onto)
            learned.run, learned.method = TrainingRun(**found["run"]) if found["run"] else None, name
            return learned
        checkpoint, others = paths.checkpoint(self.study, goal), functools.partial(self.learned, seed=seed)
        learned, cost = lesson.teach(self, others, checkpoint=checkpoint, label=label)
        if lesson.method.trains:
            cell = {"model": self.model, "level": str(self.level), "method": name, "trained_on": lesson.text, "seed": seed}
            run = None if learned.run is None else {**asdict(learned.run), "seconds": 0.0}  # seconds lie with the costs
            with paths.replacing(goal) as incoming:
                incoming.mkdir()
                learned.save(incoming, self.study.model(self.model), self.network)
                cells.write_manifest(incoming, paths.LEARNED, cell, identity=lesson.identity, run=run)
                cells.write_cost(self.study, goal, cell, [cost])
            checkpoint.unlink(missing_ok=True)
        return learned

    def score(
        self, learned: Learned, *, of: Sequence[str] | None = None, divergence: bool = True, **fields: Any
    ) -> list[dict[str, Any]]:
        """Put ``learned`` on the network, and score every corpus, or those in ``of``: a row a corpus, by the names of ``perplexity.csv``.

        The ``divergence`` from the uncompressed model, which takes as long as the rest, is counted on the broad corpus alone.
        """
        texts = {corpus: text for corpus, text in self.scored.items() if of is None or corpus in of}
        sizes = {"trainable_parameters": learned.parameters, "bytes_added": learned.bytes}
        with learned.on(self.network) as subject:
            teachers = {self.study.soft_prompt.corpus: self.teacher} if divergence else {}
            return score(subject, texts, teachers, method=learned.method, level=str(self.level), **sizes, **fields)
