"""What a recovery method is: it learns something on a frozen compressed model, which can be put on a model and taken off again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ctp_lib.settings.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ctp_lib.evaluation.subject import Subject
    from ctp_lib.recovery.training import TrainingRun
    from ctp_lib.settings.models import ModelSpec
    from ctp_lib.settings.study import Study
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

    ``needs_dense``: it looks at the uncompressed model whatever its loss. ``trains``: it depends on a text and a seed, and what it learns is
    kept in a folder.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    colour: ClassVar[str]
    needs_dense: ClassVar[bool] = False
    trains: ClassVar[bool] = True

    def settings(self, study: Study, own: Mapping[str, Any]) -> Any:
        """What it learns with: those of the study's soft prompts, unless it has settings of its own (``own``, as written)."""
        return study.soft_prompt

    @abstractmethod
    def learn(
        self,
        network: PreTrainedModel,
        text: TrainingText,
        settings: Any,
        teacher: PreTrainedModel | None,
        seed: int,
        *,
        checkpoint: Path,
        label: str,
        others: Callable[[str], Learned],
    ) -> Learned:
        """Learn on ``network``, which stays as it is.

        ``teacher`` is the uncompressed model, where the loss or the method asks for it and there is one. ``checkpoint`` is the place of an
        unfinished training, ``label`` the name of its bar; ``others`` gives what another method, by name, learned here with this seed.
        """

    @abstractmethod
    def load(self, folder: Path, network: PreTrainedModel) -> Learned:
        """Read back what :meth:`Learned.save` wrote. Raises :class:`ParameterError` when it is damaged or does not fit ``network``."""


def registry(settings: Study | None = None) -> Registry[Method]:
    """The methods of the library, and those that the study brings."""
    return Registry("recovery", Method, *((settings.root, settings.plugins) if settings else ()))
