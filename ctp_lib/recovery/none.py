"""Nothing at all: the compressed model by itself, with which all else is compared."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ctp_lib.evaluation.subject import Subject
from ctp_lib.recovery.base import Learned, Method


class Nothing(Learned):
    """Leaves the network as it is."""

    @contextmanager
    def on(self, network) -> Iterator[Subject]:
        """The network alone."""
        yield Subject(network)

    def save(self, folder, base, network) -> None:
        """There is nothing to write."""


@dataclass(frozen=True)
class Unset:
    """No settings."""


class Without(Method):
    """It learns nothing."""

    name, label, colour, trains = "none", "compressed", "#6b7280", False

    def settings(self, study, own) -> Unset:
        """It has none."""
        return Unset()

    def learn(self, network, text, settings, teacher, seed, **_) -> Nothing:
        """Nothing."""
        return Nothing()

    def load(self, folder, network) -> Nothing:
        """Nothing."""
        return Nothing()


METHOD = Without()
