"""A model at a level, with all that learning and scoring need; what is missing is made, what is there is taken."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.compression import saved
from ctp_lib.evaluation.scoring import score
from ctp_lib.model import loading
from ctp_lib.recovery.base import Learned, Method, registry
from ctp_lib.recovery.training import TrainingRun
from ctp_lib.results import cells
from ctp_lib.results.provenance import measured
from ctp_lib.settings import digests, paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study
from ctp_lib.text import leakage, selection
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
        network = saved.load(self.study, self.model, self.level, on=loading.device(self.study.device))
        longest = self.study.evaluation.window + self.study.soft_prompt.prompt_tokens
        loading.check_fit(network, self.tokenizer, longest)
        return network

    @cached_property
    def dense(self) -> PreTrainedModel:
        """The uncompressed model, from which what is learned here is distilled."""
        return loading.load_model(self.study.model(self.model), on=loading.device(self.study.device))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's own."""
        return loading.load_tokenizer(self.study.model(self.model))

    @cached_property
    def scored(self) -> dict[str, ScoredText]:
        """The test text of every corpus, none of which the model was trained on."""
        leakage.check(self.study, self.study.model(self.model))
        return selection.scored_texts(self.study, self.tokenizer)

    def method(self, name: str) -> Method:
        """A recovery method of the library or of the study."""
        return registry(self.study).get(name)

    def lesson(self, name: str, own: Any = None) -> Any:
        """What method ``name`` learns with here: ``own`` settings, or those in ``methods`` of ``params.yaml``.

        There is nothing above the uncompressed model to learn from, so what is learned on it has the plain loss.
        """
        if own is None or isinstance(own, Mapping):
            own = self.method(name).settings(self.study, self.study.methods.get(name, {}) if own is None else own)
        return dataclasses.replace(own, loss="next-token") if self.level.family == "full" and hasattr(own, "loss") else own

    def identity(self, name: str, seed: int, own: Any = None, corpus: str | None = None) -> dict[str, Any]:
        """What something learned depends on: the compressed model's manifest (not its bytes), the text, settings, seed, code, packages."""
        made_by = {
            "base": saved.identity(self.study, self.model, self.level),
            "method": name,
            "code": digests.code([registry(self.study).file(name)]),
        }
        if not self.method(name).trains:
            return made_by | {"settings": asdict(self.lesson(name, own))}
        corpus, lesson = corpus or self.study.soft_prompt.corpus, asdict(self.lesson(name, own))
        folder, window = paths.corpora(self.study) / corpus, self.study.evaluation.window
        read = {split: digests.content(folder / f"{split}.jsonl.gz") for split in ("train", "validation")}
        return {
            **made_by,
            "settings": {key: value for key, value in lesson.items() if key not in ("seeds", "recipe", "corpus")},
            "text": {"corpus": corpus, **read, "window": window, "validated_on": self.study.evaluation.windows["validation"]},
            "seed": seed,
        }

    def learned(
        self,
        name: str,
        seed: int,
        *,
        own: Any = None,
        corpus: str | None = None,
        goal: Path | None = None,
        label: str = "",
        onto: PreTrainedModel | None = None,
    ) -> Learned:
        """What method ``name`` learns here with ``seed``: from ``goal``, its folder, or learned now.

        ``own`` are settings in place of the study's, ``corpus`` is the text in place of the broad one; ``label`` names its bar. What is
        there already is read for the network ``onto``, so that this level's own need not be loaded.
        """
        method, goal = self.method(name), goal or paths.learned(self.study, self.model, self.level, name, seed)
        wanted = json.loads(json.dumps(self.identity(name, seed, own, corpus)))
        about = goal / paths.LEARNED
        if about.exists() and (found := json.loads(about.read_text(encoding="utf-8")))["identity"] == wanted:
            learned = method.load(goal, self.network if onto is None else onto)
            learned.run, learned.method = TrainingRun(**found["run"]) if found["run"] else None, name
            return learned
        learned, cost = self._learn(method, seed, own, corpus, goal, label)
        learned.method = name
        if method.trains:
            self._keep(learned, goal, wanted)
            cell = {
                "model": self.model,
                "level": str(self.level),
                "method": name,
                "trained_on": wanted["text"]["corpus"],
                "seed": seed,
            }
            cells.write_cost(self.study, goal, cell, [cost])
            paths.checkpoint(self.study, goal).unlink(missing_ok=True)
        return learned

    def score(self, learned: Learned, *, of: Sequence[str] | None = None, **fields: Any) -> list[dict[str, Any]]:
        """Put ``learned`` on the network, and score every corpus, or those in ``of``: a row a corpus, by the names of ``perplexity.csv``."""
        texts = {corpus: text for corpus, text in self.scored.items() if of is None or corpus in of}
        sizes = {"trainable_parameters": learned.parameters, "bytes_added": learned.bytes}
        with learned.on(self.network) as subject:
            return score(subject, texts, method=learned.method, level=str(self.level), **sizes, **fields)

    def _learn(self, method: Method, seed: int, own: Any, corpus: str | None, goal: Path, label: str) -> tuple[Learned, Any]:
        lesson, shared = self.lesson(method.name, own), self.study.soft_prompt
        spec = getattr(lesson, "training", shared.training)
        text = selection.training_text(self.study, self.tokenizer, corpus or shared.corpus, spec, seed)
        above = self.level.family != "full" and (method.needs_dense or getattr(lesson, "loss", "") == "distillation")
        with measured("train", seed=seed) as cost:
            learned = method.learn(
                self.network,
                text,
                lesson,
                self.dense if above else None,
                seed,
                checkpoint=paths.checkpoint(self.study, goal),
                label=f"{label or method.name}, {self.level}, seed {seed}",
                others=functools.partial(self.learned, seed=seed),
            )
        if learned.run:
            cost.tokens, cost.seconds = learned.run.tokens, learned.run.seconds
        return learned, cost

    def _keep(self, learned: Learned, goal: Path, identity: dict[str, Any]) -> None:
        run = None if learned.run is None else {**asdict(learned.run), "seconds": 0.0}  # seconds lie with the costs
        with paths.replacing(goal) as incoming:
            incoming.mkdir()
            learned.save(incoming, self.study.model(self.model), self.network)
            (incoming / paths.LEARNED).write_text(json.dumps({"identity": identity, "run": run}, indent=1) + "\n", encoding="utf-8")
