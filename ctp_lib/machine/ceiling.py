"""What this machine's matrix products allow: no step of learning is faster than that."""

import time

import torch
from transformers import PreTrainedModel

from ctp_lib.model import loading
from ctp_lib.results.provenance import synchronise


def ceiling(dtype: torch.dtype, device: str | torch.device, repeats: int = 5) -> float:
    """The best rate of a matrix product of this dtype here, in floating-point operations a second."""
    best = 0.0
    for size in (1024, 2048) if torch.device(device).type == "cpu" else (4096, 8192):
        left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
        for _ in range(repeats):
            synchronise()
            started = time.perf_counter()
            left @ right
            synchronise()
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def least_seconds(network: PreTrainedModel, tokens: int) -> float:
    """What it takes at least to read ``tokens`` once, forwards and backwards: two operations each way for every weight of a matrix."""
    weights = sum(module.weight.numel() for module in loading.compressible(network).values())
    weights += network.get_output_embeddings().weight.numel()
    return 4 * weights * tokens / ceiling(network.dtype, network.device)
