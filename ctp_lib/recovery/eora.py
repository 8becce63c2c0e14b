"""EoRA (Liu et al. 2024): the best rank-r approximation of the compression error, weighted by the inputs. Closed form; stored as LoRA."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from transformers import PreTrainedModel

from ctp_lib.model import loading
from ctp_lib.recovery.base import Method
from ctp_lib.recovery.lora import Adapter, read_adapter
from ctp_lib.settings.spec import SPEC, Count
from ctp_lib.settings.study import with_settings

AT_ONCE = 2 * 10**9  # bytes of covariances that are gathered in one pass over the calibration windows
BATCH = 8  # windows


@dataclass(**SPEC)
class EoraSpec:
    """The rank of every matrix's repair."""

    rank: Count = 8


class Eora(Method):
    """Every matrix that was compressed. ``eora`` looks at the uncompressed weights and at the calibration windows, and draws nothing."""

    name, label, colour, needs_dense, needs_calibration = "eora", "compressed + EoRA", "#9c36b5", True, True

    def settings(self, study, own) -> EoraSpec:
        """``rank``, 8 unless said."""
        return with_settings(EoraSpec, dict(own), f"methods.{self.name}.")

    @torch.no_grad()
    def learn(self, network, text, settings: EoraSpec, teacher, seed, **_) -> Adapter:
        """Matrix by matrix."""
        from peft import LoraConfig

        compressed = loading.compressible(network)
        dense = loading.compressible(teacher.network) if teacher else compressed
        weights = {}
        for name, covariance in covariances(network, text.calibration()):
            change = loading.in_fp64(dense[name].weight) - loading.in_fp64(compressed[name].weight)
            wide, thin = nearest(change, loading.in_fp64(covariance), settings.rank)
            weights[f"base_model.model.{name}.lora_A.weight"] = thin.float()
            weights[f"base_model.model.{name}.lora_B.weight"] = wide.float()
        names = sorted({name.rpartition(".")[2] for name in compressed})
        config = LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=names, task_type="CAUSAL_LM")
        return Adapter(config, weights, trained=False)

    def load(self, folder, network) -> Adapter:
        """Read it back."""
        return read_adapter(folder, trained=False)


def nearest(change: Tensor, covariance: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """B (rows x rank) and A (rank x columns) for which B A is nearest to ``change`` on inputs of that ``covariance`` (columns x columns).

    Algorithm 1: the change in the eigenvectors of the covariance, each times the root of its eigenvalue, cut by an SVD, and rotated back.
    """
    values, vectors = torch.linalg.eigh(covariance)
    felt = values > values[-1] * torch.finfo(values.dtype).eps * len(values)  # what no input reaches needs no repair
    roots, vectors = values[felt].sqrt(), vectors[:, felt]
    left, strengths, right = torch.linalg.svd(change @ vectors * roots, full_matrices=False)
    thin = torch.zeros(rank, change.shape[1], dtype=change.dtype, device=change.device)
    found = right[:rank] / roots @ vectors.T
    thin[: len(found)] = found
    wide = torch.zeros(change.shape[0], rank, dtype=change.dtype, device=change.device)
    wide[:, : len(found)] = (left * strengths)[:, :rank]
    return wide, thin


@torch.no_grad()
def covariances(network: PreTrainedModel, windows: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The mean of x x^T over the inputs x of every matrix, fp32, columns x columns, by name; as many in a pass as have room."""
    waiting = list(loading.compressible(network).items())
    while waiting:
        sums: dict[str, Tensor] = {}
        taken = 0
        with ExitStack() as hooks:
            while waiting and (not taken or taken + 4 * waiting[0][1].in_features ** 2 <= AT_ONCE):
                name, module = waiting.pop(0)
                taken += 4 * module.in_features**2
                hooks.enter_context(module.register_forward_pre_hook(_adding(sums, name)))
            for batch in windows.to(network.device).split(BATCH):
                network.get_decoder()(input_ids=batch, use_cache=False)
        for name in list(sums):
            yield name, sums.pop(name) / windows.numel()


def _adding(sums: dict[str, Tensor], name: str) -> Any:
    def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].flatten(0, -2).float()
        sums[name] = rows.T @ rows if name not in sums else sums[name].addmm_(rows.T, rows)

    return add


METHOD = Eora()
