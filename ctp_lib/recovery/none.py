"""Nothing at all: the compressed model by itself, with which all else is compared."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ctp_lib.evaluation.subject import Subject
from ctp_lib.recovery.base import Learned, Method


class Nothing(Learned):
    """Leaves the network as it is."""

    @contextmanager
    def on(self, network: PreTrainedModel) -> Iterator[Subject]:
        """The network alone."""
        yield Subject(network)

    def save(self, folder: Path, base: Any, network: PreTrainedModel) -> None:
        """There is nothing to write."""


@dataclass(frozen=True)
class Unset:
    """No settings."""


class Without(Method):
    """It learns nothing."""

    name, label, colour, trains = "none", "compressed", "#6b7280", False

    def settings(self, study: Any, own: Mapping[str, Any]) -> Unset:
        """It has none."""
        return Unset()

    def learn(self, network: PreTrainedModel, text: Any, settings: Any, teacher: Any, seed: int, **_: Any) -> Nothing:
        """Nothing."""
        return Nothing()

    def load(self, folder: Path, network: PreTrainedModel) -> Nothing:
        """Nothing."""
        return Nothing()


METHOD = Without()
