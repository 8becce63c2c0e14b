"""What this machine's matrix products allow: no step of learning is faster than that."""

import functools

import torch
from transformers import PreTrainedModel

from ctp_lib.model import loading
from ctp_lib.results.provenance import timed


def ceiling(dtype: torch.dtype, device: str | torch.device) -> float:
    """The best rate of a matrix product of this dtype here, in floating-point operations a second."""
    best = 0.0
    for size in (1024, 2048) if torch.device(device).type == "cpu" else (4096, 8192):
        left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
        seconds = min(timed(functools.partial(torch.matmul, left, right))[0] for _ in range(5))
        best = max(best, 2 * size**3 / seconds)
    return best


def matrix_weights(network: PreTrainedModel) -> int:
    """Weights in the matrices that every token goes through: those of the layers, and the head."""
    layers = loading.compressible(network).values()
    return sum(module.weight.numel() for module in layers) + network.get_output_embeddings().weight.numel()


def least_seconds(network: PreTrainedModel, tokens: int) -> float:
    """What it takes at least to read ``tokens`` once, forwards and backwards: two operations each way for every weight of a matrix."""
    return 4 * matrix_weights(network) * tokens / ceiling(network.dtype, network.device)
