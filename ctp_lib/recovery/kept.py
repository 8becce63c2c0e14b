"""Learned tensors by name: kept in one file, and, for methods that change weights, put in place of the weights and taken out again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ctp_lib.evaluation.subject import Subject
from ctp_lib.recovery.base import Learned
from ctp_lib.recovery.training import TrainingRun
from ctp_lib.settings.spec import ParameterError

FILE = "learned.safetensors"


class Kept(Learned):
    """``tensors`` by name, all of them trained and added to the model, unless a method says otherwise."""

    def __init__(self, tensors: Mapping[str, Tensor], run: TrainingRun | None = None):
        self.tensors, self.run = {name: tensor.detach().clone() for name, tensor in tensors.items()}, run
        self.parameters = sum(tensor.numel() for tensor in tensors.values())
        self.bytes = sum(tensor.nbytes for tensor in tensors.values())

    def save(self, folder, base, network) -> None:
        """One file of safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.cpu().contiguous() for name, tensor in self.tensors.items()}, folder / FILE)


class Replaced(Kept):
    """Parameters of the network by name, that take the place of its own: no byte more."""

    def __init__(self, tensors: Mapping[str, Tensor], run: TrainingRun | None = None):
        super().__init__(tensors, run)
        self.bytes = 0

    @contextmanager
    def on(self, network) -> Iterator[Subject]:
        """The network with these; after the block its own again."""
        own = dict(network.named_parameters())
        before = {name: own[name].detach().clone() for name in self.tensors}
        try:
            put(network, self.tensors)
            yield Subject(network)
        finally:
            put(network, before)


@torch.no_grad()
def put(network: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
    """Copy ``tensors`` into the parameters of ``network`` that have their names."""
    own = dict(network.named_parameters())
    for name, tensor in tensors.items():
        own[name].copy_(tensor)


def read(file: Path, what: str = "result") -> dict[str, Tensor]:
    """The tensors in ``file``, which is ``what`` was learned. Raises :class:`ParameterError` when it is missing or damaged."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ParameterError(f"{file} is not a readable {what} ({error}); learn it again") from None
