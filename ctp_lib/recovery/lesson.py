"""How a method is trained: with which settings, on which text, with which teacher; and what the result depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctp_lib.compression import saved
from ctp_lib.recovery.base import Learned, Method, registry
from ctp_lib.results.provenance import Cost, measured
from ctp_lib.settings import digests, paths
from ctp_lib.settings.learning import SoftPromptSpec, TrainingSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study
from ctp_lib.text import selection

if TYPE_CHECKING:
    from ctp_lib.recovery.bench import Bench


@dataclass(frozen=True)
class Lesson:
    """Method ``name`` on ``model`` at ``level``, with ``own`` settings in place of the study's, on ``corpus`` in place of the broad one."""

    study: Study
    model: str
    level: Level
    name: str
    seed: int
    own: Any = None
    corpus: str | None = None

    @cached_property
    def method(self) -> Method:
        """The method itself."""
        return registry(self.study).get(self.name)

    @cached_property
    def settings(self) -> Any:
        """What the method learns with here: on the uncompressed model by the plain loss, since there is nothing above it to learn from."""
        found = self.own
        if found is None or isinstance(found, Mapping):
            found = self.method.settings(self.study, self.study.methods.get(self.name, {}) if found is None else found)
        return replace(found, loss="next-token") if self.level.family == "full" and hasattr(found, "loss") else found

    @property
    def training(self) -> TrainingSpec:
        """How much text is read, and how: that of the settings, or of the study's soft prompts."""
        return getattr(self.settings, "training", self.study.soft_prompt.training)

    @property
    def text(self) -> str:
        """The corpus that it learns on."""
        return self.corpus or self.study.soft_prompt.corpus

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the result depends on: the compressed model's manifest (not its bytes), the text, settings, seed, code, packages."""
        apart = ("seeds", "recipe", "corpus") if isinstance(self.settings, SoftPromptSpec) else ()
        settings = {key: value for key, value in asdict(self.settings).items() if key not in apart}
        made_by = {
            "base": saved.identity(self.study, self.model, self.level),
            "method": self.name,
            "settings": settings,
            "code": digests.code([registry(self.study).file(self.name), Path(__file__)]),
        }
        if not self.method.trains:
            return made_by
        folder, evaluation = paths.corpora(self.study) / self.text, self.study.evaluation
        read = {split: digests.content(folder / f"{split}.jsonl.gz") for split in ("train", "validation")}
        return {
            **made_by,
            "training": asdict(self.training),
            "text": {"corpus": self.text, **read, "window": evaluation.window, "validated_on": evaluation.windows["validation"]},
            "calibration": saved.calibration(self.study) if self.method.needs_calibration else None,
            "others": {name: replace(self, name=name, own=None).identity for name in self.method.others},
            "seed": self.seed,
        }

    def teach(self, bench: Bench, others: Callable[[str], Learned], *, checkpoint: Path, label: str) -> tuple[Learned, Cost]:
        """Learn on the network of ``bench``, and by its teacher where that is needed; ``others`` gives what another method learned."""
        text = selection.training_text(self.study, bench.tokenizer, self.text, self.training, self.seed)
        if not self.method.needs_calibration:
            text = replace(text, calibration=None)
        distilled = self.method.needs_dense or getattr(self.settings, "loss", "") == "distillation"
        teacher = bench.teacher if distilled and self.level.family != "full" else None
        label = f"{label or self.name}, {self.level}, seed {self.seed}"

        def other(name: str) -> Learned:
            if name not in self.method.others:
                raise ParameterError(f"method {self.name!r} asks for {name!r}; name it in `others` of its class")
            return others(name)

        with measured("train", seed=self.seed) as cost:
            given = (bench.network, text, self.settings, teacher, self.seed)
            learned = self.method.learn(*given, checkpoint=checkpoint, label=label, others=other)
        if learned.run:
            cost.tokens, cost.seconds = learned.run.tokens, learned.run.seconds
        learned.method = self.name
        return learned, cost
