"""What a learned prompt says: the vocabulary embeddings nearest to its vectors, how far they moved, whether seeds agree."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from typing import Literal

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize


def nearest(vectors: Tensor, table: Tensor, metric: Literal["cosine", "euclid"]) -> Tensor:
    """The id of the vocabulary embedding nearest to each of ``vectors`` (n x hidden) in ``table`` (vocabulary x hidden): int64, n."""
    if metric == "cosine":
        return (normalize(vectors, dim=1) @ normalize(table.float(), dim=1).T).argmax(1)
    return torch.cdist(vectors, table.float()).argmin(1)


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """The cosine of each vector of ``one`` with that of ``other`` in the same place, n."""
    return cosine_similarity(one, other, dim=1)


def movement_table(learned: Mapping[tuple[str, int], Tensor], start: Mapping[int, Tensor], vocabulary: Tensor) -> pd.DataFrame:
    """One row a (level, seed): how far the vectors went, and the share whose nearest token is still the one they started from.

    ``learned`` and ``start`` hold prompts (n x hidden), ``vocabulary`` the embeddings (vocabulary x hidden).
    """
    table = {}
    for (level, seed), vectors in learned.items():
        still = nearest(vectors, vocabulary, "cosine") == nearest(start[seed], vocabulary, "cosine")
        table[level, seed] = {
            "moved": ((vectors - start[seed]).norm(dim=1) / start[seed].norm(dim=1)).median().item(),
            "cosine_to_start": cosines(vectors, start[seed]).median().item(),
            "still_start": still.float().mean().item(),
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(["level", "seed"])


def agreement_table(learned: Mapping[tuple[str, int], Tensor], start: Mapping[int, Tensor], vocabulary: Tensor) -> pd.DataFrame:
    """One row a pair of seeds: how many tokens their prompts both name (a mean over levels), and how many random directions would.

    A vector that is still nearest to the token it started from names nothing. Random directions stand in for the vectors that do.
    """
    named = {}
    for (level, seed), vectors in learned.items():
        ids = nearest(vectors, vocabulary, "cosine")
        named[level, seed] = set(ids[ids != nearest(start[seed], vocabulary, "cosine")].tolist())
    generator, table = torch.Generator().manual_seed(0), {}
    for one, other in itertools.combinations(sorted(start), 2):
        pairs = [(named[level, one], named[level, other]) for level, seed in learned if seed == one]
        table[f"{one}, {other}"] = {
            "shared": statistics.fmean(len(a & b) for a, b in pairs),
            "by_chance": statistics.fmean(_shared_by_chance(len(a), len(b), vocabulary, generator) for a, b in pairs),
        }
    return pd.DataFrame.from_dict(table, orient="index", columns=["shared", "by_chance"]).rename_axis("seeds")


def _shared_by_chance(one: int, other: int, vocabulary: Tensor, generator: torch.Generator) -> float:
    """Tokens that two sets of random directions both are nearest to, a mean over draws."""
    width, draws = vocabulary.shape[1], 20
    ids = [
        nearest(torch.randn(n, width, generator=generator).to(vocabulary.device), vocabulary, "cosine")
        for _ in range(draws)
        for n in (one, other)
    ]
    return statistics.fmean(len(set(a.tolist()) & set(b.tolist())) for a, b in zip(ids[::2], ids[1::2], strict=True))
