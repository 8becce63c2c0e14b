"""C12: what a learned prompt says: the vocabulary embeddings nearest to its vectors, how far they moved, whether seeds agree."""

import itertools
import math
import statistics
from collections.abc import Mapping
from typing import Literal

import pandas as pd
import seaborn
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.claims import style
from ctp_lib.claims.rules import Difference, Verdict, clearly


def vocabulary(model: PreTrainedModel) -> Tensor:
    """The embedding of every token as it enters the model, vocabulary x hidden; some models scale theirs on the way."""
    embed = model.get_input_embeddings()
    return embed(torch.arange(embed.num_embeddings, device=embed.weight.device)).detach()


def nearest(vectors: Tensor, table: Tensor, metric: Literal["cosine", "euclid"]) -> Tensor:
    """The id of the vocabulary embedding nearest to each of ``vectors`` (n x hidden) in ``table`` (vocabulary x hidden): int64, n."""
    if metric == "cosine":
        return (normalize(vectors, dim=1) @ normalize(table.float(), dim=1).T).argmax(1)
    return torch.cdist(vectors, table.float()).argmin(1)


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """The cosine of each vector of ``one`` with that of ``other`` in the same place, n."""
    return cosine_similarity(one, other, dim=1)


def one_prompt(vectors: Tensor, start: Tensor, table: Tensor, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """One row a vector (``vectors`` and ``start``: n x hidden): the tokens nearest to where it began and to where it is, and how far it went."""
    names = [
        [tokenizer.decode(row) for row in nearest(tried, table, metric)]
        for tried, metric in ((start, "cosine"), (vectors, "cosine"), (vectors, "euclid"))
    ]
    return pd.DataFrame(
        {
            "start": names[0],
            "nearest by cosine": names[1],
            "nearest by distance": names[2],
            "cosine to start": cosines(vectors, start).tolist(),
            "moved": ((vectors - start).norm(dim=1) / start.norm(dim=1)).tolist(),
        }
    )


def likeness(learned: Mapping[tuple[str, int], Tensor]) -> pd.DataFrame:
    """The mean cosine of every two prompts, vector by vector, named by level and seed on both sides."""
    names = {at: f"{at[0]} #{at[1]}" for at in learned}
    return pd.DataFrame({names[a]: {names[b]: cosines(learned[a], learned[b]).mean().item() for b in learned} for a in learned})


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


def verdict(moves: pd.DataFrame, agreement: pd.DataFrame) -> Verdict:
    """C12: do prompts of different seeds come to name the same tokens clearly more often than random directions do?

    The seed pairs are the independent observations; levels share their seeds' starts and texts.
    """
    says = "a learned prompt can be read by its nearest vocabulary embeddings"
    if len(agreement) < 2:
        return Verdict("C12", says, "it takes three seeds or more to see whether they agree", "not measured")
    more = agreement.by_chance - agreement.shared
    difference = Difference(more.mean(), more.std() / math.sqrt(len(more)))
    measured = (
        f"vectors move {moves.moved.median():.1f} times their length (cosine to the start {moves.cosine_to_start.median():.2f}); "
        f"{moves.still_start.mean():.0%} stay nearest to the token they started from; of the tokens that the others name, prompts of two "
        f"seeds share {agreement.shared.mean():.2f}, random directions {agreement.by_chance.mean():.2f}"
    )
    return Verdict("C12", says, measured, clearly(difference))


def figure(table: pd.DataFrame) -> Figure:
    """How alike the learned prompts are; ``table`` holds mean cosines of their vectors, named on both sides."""
    style.use()
    figure, axis = plt.subplots(figsize=(9.5, 8), layout="constrained")
    seaborn.heatmap(
        table,
        ax=axis,
        cmap="Oranges",
        vmin=0,
        vmax=1,
        square=True,
        annot=len(table) <= 12,
        fmt=".2f",
        cbar_kws={"label": "mean cosine of the vectors"},
    )
    axis.set(title="How alike prompts are, by level and seed", xlabel="", ylabel="")
    return figure


def _shared_by_chance(one: int, other: int, vocabulary: Tensor, generator: torch.Generator) -> float:
    """Tokens that two sets of random directions both are nearest to, a mean over draws."""
    width, draws = vocabulary.shape[1], 20
    ids = [
        nearest(torch.randn(n, width, generator=generator).to(vocabulary.device), vocabulary, "cosine")
        for _ in range(draws)
        for n in (one, other)
    ]
    return statistics.fmean(len(set(a.tolist()) & set(b.tolist())) for a, b in zip(ids[::2], ids[1::2], strict=True))
