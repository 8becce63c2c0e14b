"""What a recovery method is: it learns something on a frozen compressed model, which can be put on a model and taken off again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ctp_lib.settings.registry import Registry
from ctp_lib.settings.spec import as_section, require
from ctp_lib.settings.study import PROMPT, Study

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ctp_lib.evaluation.subject import Subject
    from ctp_lib.model.divergence import Teacher
    from ctp_lib.recovery.training import TrainingRun
    from ctp_lib.settings.models import ModelSpec
    from ctp_lib.text.selection import TrainingText


class Learned(ABC):
    """What a ``method`` learned. ``parameters`` were trained; ``bytes`` are what it adds to a model on disk; ``run`` is its training, if any."""

    method: str = ""
    parameters: int = 0
    bytes: int = 0
    run: TrainingRun | None = None

    @abstractmethod
    def on(self, network: PreTrainedModel) -> AbstractContextManager[Subject]:
        """Put it on ``network``: in the block, the value can be scored, asked and made to write; after it the network is as it was."""

    @abstractmethod
    def save(self, folder: Path, base: ModelSpec, network: PreTrainedModel) -> None:
        """Write it into ``folder``; ``base`` is the model it was learned for."""


class Method(ABC):
    """``name`` in tables and in ``methods`` of ``params.yaml``, ``label`` and ``colour`` in figures.

    ``needs_dense``: it looks at the uncompressed model whatever its loss; ``needs_calibration``: at the text of the compression; ``others``: at
    what these methods learned. ``trains``: it depends on a text and a seed, and what it learns is kept. ``control``: it learns nothing, or
    nothing that depends on the input; a repair has to beat it.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    colour: ClassVar[str]
    needs_dense: ClassVar[bool] = False
    needs_calibration: ClassVar[bool] = False
    others: ClassVar[tuple[str, ...]] = ()
    control: ClassVar[bool] = False
    trains: ClassVar[bool] = True

    def settings(self, study: Study, own: Mapping[str, Any]) -> Any:
        """What it learns with, by ``own``, as ``methods`` of ``params.yaml`` has them; a method that has none learns as soft prompts do."""
        require(not own, f"methods.{self.name}", dict(own), "{}, since it learns by the section soft_prompt")
        return study.soft_prompt

    @abstractmethod
    def learn(
        self,
        network: PreTrainedModel,
        text: TrainingText,
        settings: Any,
        teacher: Teacher | None,
        seed: int,
        *,
        checkpoint: Path,
        label: str,
        others: Callable[[str], Learned],
    ) -> Learned:
        """Learn on ``network``, which stays as it is.

        ``teacher`` has the uncompressed model, where the loss or the method asks for it and there is one. ``checkpoint`` is the place of an
        unfinished training, ``label`` the name of its bar; ``others`` gives what one of the method's ``others`` learned here with this seed.
        """

    @abstractmethod
    def load(self, folder: Path, network: PreTrainedModel) -> Learned:
        """Read back what :meth:`Learned.save` wrote. Raises :class:`ParameterError` when it is damaged or does not fit ``network``."""


def registry(settings: Study | None = None) -> Registry[Method]:
    """The methods of the library, and those that the study brings."""
    return Registry("recovery", Method, *((settings.root, settings.plugins) if settings else ()))


def settings_of(study: Study, name: str) -> dict[str, Any] | None:
    """What the study's method ``name`` learns with (None: a soft prompt as it is). Raises :class:`ParameterError` where it cannot."""
    own = study.methods[name]
    if name == PROMPT:
        require(not own, "methods.soft_prompt", dict(own), "{}, since it learns by the section soft_prompt")
        return None
    as_section(own.get("training"), f"methods.{name}.training")
    method = registry(study).get(name)
    require(method.trains, "methods", name, "a method that learns; the compressed model alone is always there")
    for other in method.others:
        require(other in study.methods, "methods", list(study.methods), f"a list with {other}, which {name} learns from")
    return asdict(method.settings(study, own))


def sized(settings: Study, name: str, size: Mapping[str, Any], rate: float | None) -> Any:
    """The settings of method ``name`` at a ``size`` (what differs from its usual ones), at learning rate ``rate`` if it is trained at one."""
    own = as_section(size.get("training"), f"comparison.repairs.{name}.sizes: training")
    trained = {"training": {**own, "learning_rate": rate}} if rate else {}
    return registry(settings).get(name).settings(settings, {**size, **trained})


def check_repairs(settings: Study) -> None:
    """Raise :class:`ParameterError` where a repair is unknown, cannot be learned or cannot have a size, or if none of them is a control."""
    repairs = settings.comparison.repairs
    controlled = any(registry(settings).get(name).control for name in repairs)
    require(controlled, "comparison.repairs", list(repairs), "a list with a control such as sink, which repairs have to beat")
    for name, repair in repairs.items():
        method = registry(settings).get(name)
        require(method.trains, "comparison.repairs", name, "a method that learns or puts something before the input")
        for other in method.others:
            require(other in settings.methods, "methods", list(settings.methods), f"a list with {other}, which {name} learns from")
        for size in repair.sizes.values():
            recipe = sized(settings, name, size, repair.rates[0] if repair.rates else None)
            own = type(method).settings is not Method.settings  # else it learns as soft prompts do, and nothing is swept
            swept = own and hasattr(recipe, "training") and not method.control
            require(bool(repair.rates) or not swept, f"comparison.repairs.{name}.rates", [], "one learning rate or more")
