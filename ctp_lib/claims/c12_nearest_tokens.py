"""C12: what a learned prompt says: the vocabulary embeddings nearest to its vectors, how far they moved, whether seeds agree."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import seaborn
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cosine_similarity as cosines
from torch.nn.functional import normalize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.claims.estimate import Estimate
from ctp_lib.claims.verdict import Verdict, judge

DRAWS = 40
"""Of chance, by level."""


def vocabulary(model: PreTrainedModel) -> Tensor:
    """The embedding of every token as it enters the model, vocabulary x hidden; some models scale theirs on the way."""
    embed = model.get_input_embeddings()
    return embed(torch.arange(embed.num_embeddings, device=embed.weight.device)).detach()


def nearest(vectors: Tensor, table: Tensor, metric: Literal["cosine", "euclid"]) -> Tensor:
    """The id of the vocabulary embedding nearest to each of ``vectors`` (n x hidden) in ``table`` (vocabulary x hidden): int64, n."""
    if metric == "cosine":
        return (normalize(vectors, dim=1) @ normalize(table.float(), dim=1).T).argmax(1)
    return torch.cdist(vectors, table.float()).argmin(1)


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
    """One row a level: how many tokens the prompts of two seeds both name (a mean over pairs of seeds), how many they would ``by_chance``,
    and the estimate of ``more``, the first less the second.

    A vector that is still nearest to the token it started from names nothing. Chance moves every vector from where it started by the
    displacement of another vector of that level, drawn anew: as many vectors leave their tokens, and they hit the same hubs of the
    vocabulary. The estimate varies with chance and with seeds (jackknife).
    """
    generator, table = torch.Generator().manual_seed(0), {}
    home = {seed: nearest(vectors, vocabulary, "cosine") for seed, vectors in start.items()}
    for level in dict.fromkeys(level for level, _ in learned):
        moved = {seed: learned[level, seed] - start[seed] for seed in start}
        pairs = _shared({seed: learned[level, seed] for seed in start}, home, vocabulary)
        chance = np.array([_mean(_shared(_by_chance(moved, start, generator), home, vocabulary)) for _ in range(DRAWS)])
        draws = {
            f"seeds at {level}": _pseudo_values(pairs, sorted(start)),
            f"chance at {level}": (chance - chance.mean()) * DRAWS**0.5,
        }
        table[level] = {"shared": _mean(pairs), "by_chance": chance.mean(), "more": Estimate(_mean(pairs) - chance.mean(), draws)}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("level")


def verdict(moves: pd.DataFrame, agreement: pd.DataFrame, margin: float) -> Verdict:
    """C12: do prompts of different seeds come to name the same tokens, by more than displacements of the same shape do?

    Agreement is needed for a prompt that can be read; it is not enough.
    """
    says = "the vocabulary embeddings nearest to a prompt show what it says"
    seeds = moves.index.unique("seed")
    compressed = {level: more for level, more in agreement.more.items() if level != "full"} if len(seeds) > 1 else {}
    stayed = moves.still_start.groupby(level="level").min()
    silent = {level: "no vector left the token it started from" for level in compressed if stayed[level] == 1}
    part = judge("seeds name the same tokens", compressed, margin, "tokens", silent=silent)
    figures = (
        f"vectors move by {moves.moved.median():.1f} times their length (cosine to the start {moves.cosine_to_start.median():.2f}); for "
        f"{moves.still_start.mean():.0%} the nearest token is still the one they started from; of the other nearest tokens, prompts of two "
        f"seeds share {agreement.shared.mean():.2f} on average, and prompts whose displacements are dealt to other vectors share "
        f"{agreement.by_chance.mean():.2f}"
    )
    return Verdict("C12", says, part.told("seeds agree", "seeds do not agree beyond chance"), (part,), figures, "15_nearest_tokens")


def figure(table: pd.DataFrame) -> Figure:
    """How alike the learned prompts are; ``table`` holds mean cosines of their vectors, named on both sides."""
    figure, axis = plt.subplots(figsize=(9.5, 8), layout="constrained")
    bar = {"label": "mean cosine of the vectors"}
    seaborn.heatmap(table, ax=axis, cmap="Oranges", vmin=0, vmax=1, square=True, annot=len(table) <= 12, fmt=".2f", cbar_kws=bar)
    axis.set(title="How alike prompts are, by level and seed", xlabel="", ylabel="")
    return figure


def _shared(vectors: Mapping[int, Tensor], home: Mapping[int, Tensor], vocabulary: Tensor) -> dict[tuple[int, int], int]:
    """Tokens that two prompts both name, by pair of seeds."""
    named = {}
    for seed, prompt in vectors.items():
        ids = nearest(prompt, vocabulary, "cosine")
        named[seed] = set(ids[ids != home[seed]].tolist())
    return {(a, b): len(named[a] & named[b]) for a, b in itertools.combinations(sorted(named), 2)}


def _mean(pairs: Mapping[tuple[int, int], int]) -> float:
    return statistics.fmean(pairs.values()) if pairs else 0.0


def _pseudo_values(pairs: Mapping[tuple[int, int], int], seeds: Sequence[int]) -> np.ndarray:
    """The jackknife's value of each seed, whose mean is that over pairs; a single one where there are fewer than three seeds."""
    if len(seeds) < 3:
        return np.array([_mean(pairs)])
    without = [_mean({pair: shared for pair, shared in pairs.items() if seed not in pair}) for seed in seeds]
    return len(seeds) * _mean(pairs) - (len(seeds) - 1) * np.array(without)


def _by_chance(moved: Mapping[int, Tensor], start: Mapping[int, Tensor], generator: torch.Generator) -> dict[int, Tensor]:
    """``start`` with the displacements of those that ``moved``, each dealt to a vector of any seed."""
    every = torch.cat(list(moved.values()))
    dealt = every[torch.randperm(len(every), generator=generator).to(every.device)].split(
        [len(vectors) for vectors in moved.values()]
    )
    return {seed: start[seed] + own for seed, own in zip(moved, dealt, strict=True)}
