"""The steps that notebooks share: score a model on every corpus, write what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from ctp_lib import places, results
from ctp_lib.compression import files
from ctp_lib.evaluation.perplexity import bits_per_byte, perplexity
from ctp_lib.study import Level, Study
from ctp_lib.texts import ScoredText
from ctp_lib.tuning import TrainingRun


def score(
    model: PreTrainedModel,
    texts: Mapping[str, ScoredText],
    *,
    method: str,
    prompt: Tensor | None = None,
    trainable_parameters: int | None = None,
    **fields: Any,
) -> list[dict[str, Any]]:
    """Score each of ``texts``; one row a corpus, by the names of ``results/perplexity.csv``, with ``fields`` in each row.

    ``text_digest`` tells which tokens were scored. ``trainable_parameters`` are by default those of the ``prompt``.
    """
    trainable = trainable_parameters if trainable_parameters is not None else 0 if prompt is None else prompt.numel()
    rows = []
    for corpus, text in texts.items():
        result = perplexity(model, text.windows, prompt)
        rows.append(
            {
                "method": method,
                **({} if prompt is None else {"prompt_kind": "learned"}),
                **fields,
                "evaluated_on": corpus,
                "split": "test",
                **result.record(),
                "bits_per_byte": bits_per_byte(result, text.bytes_per_token),
                "text_digest": text.digest,
                "trainable_parameters": trainable,
            }
        )
    return rows


def training_cost(run: TrainingRun) -> dict[str, Any]:
    """A training's line of ``results/cost.csv``."""
    return {"work": "train", "tokens": run.tokens, "seconds": run.seconds, "tokens_per_second": run.tokens / run.seconds}


def write(
    settings: Study,
    experiment: str,
    model: str,
    level: Level,
    *,
    rows: list[dict[str, Any]],
    costs: list[results.Cost],
    **more: Any,
) -> None:
    """Write the JSON of one cell: one model at one level. Its method is that of its rows, which are at least one."""
    cell = {"model": model, "level": str(level), "method": rows[0]["method"], "trained_on": rows[0].get("trained_on", "")}
    bits = files.manifest(settings, model, level)["bits_per_weight"]
    path = places.cell_path(settings, experiment, model, level)
    results.write_cell(path, cell, perplexity=rows, cost=[{**cost.record(), "bits_per_weight": bits} for cost in costs], **more)
