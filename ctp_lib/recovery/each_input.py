"""A prompt for each input (IDP, Hoang et al. 2023), beside what it has to beat: a random choice, the best single prompt, and an oracle."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctp_lib.evaluation.subject import Subject, continuation_nll
from ctp_lib.model import likelihood, loading
from ctp_lib.recovery import comparison
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.idp import METHOD as IDP
from ctp_lib.recovery.idp import attended
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.results import cells
from ctp_lib.settings import digests, paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study
from ctp_lib.text import selection
from ctp_lib.text.selection import ScoredText

TREATMENTS = {"own choice": "by attention", "random choice": "drawn", "best single": "on validation", "oracle": "by the answer"}


def pool(bench: Bench, seed: int, reads: int) -> dict[str, Tensor]:
    """Prompts for the model at this level, n x hidden each: the study's own, those of other lengths, of other corpora, of other levels, in this
    order, as many as stand together with ``reads`` tokens in the model's context. The paper's pool has lengths alone.
    """
    found, left = {}, loading.context(bench.network) - reads
    for name, vectors in _prompts(bench, seed):
        if len(vectors) <= left:
            found[name], left = vectors, left - len(vectors)
    return found


def _prompts(bench: Bench, seed: int) -> Iterator[tuple[str, Tensor]]:
    settings, level = bench.study, str(bench.level)
    yield "its own", bench.learned(PROMPT.name, seed).vectors
    contest = comparison.Contest(bench, PROMPT.name)
    rows = (
        comparison.obtain(settings, bench.model, bench.level, PROMPT.name)["perplexity"]
        if level in settings.comparison.levels
        else []
    )
    for point, rate in dict.fromkeys((row["point"], row["learning_rate"]) for row in rows):
        if contest.goal(point, rate, 0) != paths.learned(settings, bench.model, bench.level, PROMPT.name, 0):
            yield point, contest.learned(point, rate, seed if seed in contest.seeds else contest.seeds[0]).vectors
    direct, others = settings.cross_dataset, [name for name in settings.corpora.sources if name != settings.soft_prompt.corpus]
    for corpus in others if level in direct.levels else []:
        goal = paths.learned_for(settings, "direct", bench.model, bench.level, corpus, seed=seed)
        yield f"of {corpus}", bench.learned(PROMPT.name, seed, corpus=corpus, goal=goal).vectors
    for other in (level for level in settings.levels if level.family != "full" and level != bench.level):
        away = Bench(settings, bench.model, other)
        yield f"of {other}", away.learned(PROMPT.name, seed, onto=bench.network).vectors


@dataclass(frozen=True)
class Scored:
    """``nll`` of every prompt on every input (prompts x inputs), ``alone`` that without one, nats per token; ``attention`` inputs x prompts."""

    nll: Tensor
    alone: Tensor
    attention: Tensor


@torch.inference_mode()
def scored(bench: Bench, prompts: Mapping[str, Tensor], windows: Tensor, reads: int) -> Scored:
    """Every prompt on every window (int64, inputs x length). Its first ``reads`` tokens choose, and only the others are scored."""
    network, behind = bench.network, windows.shape[1] - reads
    vectors = [prompt.to(network.device) for prompt in prompts.values()]
    alone, *nll = (continuation_nll(Subject(network, prompt), windows, behind, at_once=8) for prompt in (None, *vectors))
    return Scored(torch.stack(nll), alone, attended(network, vectors, windows[:, :reads]))


def treated(found: Scored, best: int) -> dict[str, Tensor]:
    """The NLL of every input under each treatment: by its own choice, by a random one (the mean over prompts), by the prompt ``best``, by the
    one that is best for it.
    """
    chosen = found.nll.T[torch.arange(found.nll.shape[1]), found.attention.argmax(1)]
    return dict(zip(TREATMENTS, (chosen, found.nll.mean(0), found.nll[best], found.nll.amin(0)), strict=True))


def obtain(settings: Study, model: str, level: Level) -> dict[str, Any]:
    """``rows``: one per network (at ``level``, uncompressed), treatment, corpus and seed, with ``window_nll``. ``pools``: how many inputs chose
    each prompt. It is made if it is not there. A seed counts if each prompt of its pool was learned with it.
    """
    path, bench = paths.question(settings, "each_input", model), Bench(settings, model, level)
    reads = IDP.settings(settings, {}).reads
    reads = min(reads, settings.evaluation.window // 2)
    direct = settings.cross_dataset
    seeds = [seed for seed in settings.soft_prompt.seeds if str(level) not in direct.levels or seed in direct.seeds]
    pools = {seed: pool(bench, seed, reads) for seed in seeds}
    wanted = {
        "prompts": digests.short(
            [
                [name, digests.short(vectors.float().cpu().numpy().tobytes())]
                for found in pools.values()
                for name, vectors in found.items()
            ]
        ),
        "bench": [bench.lesson(NONE.name, 0).identity, bench.lesson(NONE.name, 0).text],
        "reads": reads,
        "windows": dict(settings.evaluation.windows),
        "code": digests.code([Path(__file__)]),
    }
    if (known := cells.known(path, wanted)) is not None:
        return known
    rows, chosen = [], []
    for network in (bench, Bench(settings, model, Level())):
        likelihood.check_prompt_cache(network.network)
        for seed, prompts in pools.items():
            own, counted = _one(network, prompts, reads, seed)
            rows, chosen = rows + own, chosen + counted
    return cells.write(path, {"model": model, "learned_at": str(level)}, identity=wanted, rows=rows, pools=chosen)


def _one(network: Bench, prompts: Mapping[str, Tensor], reads: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    settings = network.study
    broad = selection.split_windows(settings, network.tokenizer, settings.soft_prompt.corpus, "validation")
    best = int(scored(network, prompts, broad, reads).nll.mean(1).argmin())
    rows, counted = [], []
    for corpus, text in network.scored.items():
        found = scored(network, prompts, text.windows, reads)
        about = {"level": str(network.level), "evaluated_on": corpus, "seed": seed}
        size = max(map(len, prompts.values()))
        rows += [
            _row(nll, text, method=IDP.name, treatment=name, trainable_parameters=size, **about)
            for name, nll in treated(found, best).items()
        ]
        rows.append(_row(found.alone, text, method=NONE.name, treatment="none", trainable_parameters=0, **about))
        taken = found.attention.argmax(1).bincount(minlength=len(prompts)).tolist()
        for number, (name, times) in enumerate(zip(prompts, taken, strict=True)):
            counted.append(
                {**about, "prompt": name, "chosen": times, "best_single": number == best, "nll": found.nll[number].mean().item()}
            )
    return rows, counted


def _row(nll: Tensor, text: ScoredText, **about: Any) -> dict[str, Any]:
    mean = nll.mean().item()
    return {
        **about,
        "nll": mean,
        "ppl": math.exp(mean),
        "window_nll": nll.tolist(),
        "text_digest": text.digest,
        "clusters": text.clusters,
    }
