"""Multiple choice behind a prompt: ours, whose prompt and contexts go through the model once, and lm-eval's own model over PEFT's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from benchmarks import measure
from benchmarks.measure import Benchmark
from benchmarks.prompt_step import peft_model
from benchmarks.shapes import Shape, matrix_weights
from ctp_lib.evaluation.perplexity import TOKENS_AT_ONCE
from ctp_lib.evaluation.stitched_lm import StitchedLM
from ctp_lib.evaluation.subject import Subject

ITEMS, CHOICES = 32, 4
CONTEXT, ANSWER = 44, 16
"""Tokens, on average; half to one and a half times as many in an item."""
PROMPT = 100


def requests(shape: Shape) -> list[tuple[tuple[str, str], list[int], list[int]]]:
    """Items with four answers each, as lm-eval hands them to a model: strings (unused), context ids, answer ids."""
    draw = torch.Generator().manual_seed(0)

    def tokens(mean: int) -> list[int]:
        length = int(torch.randint(max(1, mean // 2), mean + mean // 2 + 1, (1,), generator=draw))
        return torch.randint(3, shape.config.vocab_size, (length,), generator=draw).tolist()

    contexts = [tokens(CONTEXT) for _ in range(ITEMS)]
    return [((f"{item}", f"{choice}"), contexts[item], tokens(ANSWER)) for item in range(ITEMS) for choice in range(CHOICES)]


def tokenizer() -> PreTrainedTokenizerFast:
    """lm-eval wants one; the requests are tokens already."""
    words = {"<s>": 0, "</s>": 1, "<pad>": 2}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<s>")), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def _window(shape: Shape) -> int:
    return shape.config.max_position_embeddings - _prompt(shape)


def _prompt(shape: Shape) -> int:
    return min(PROMPT, shape.config.max_position_embeddings // 3)


def ours(model: PreTrainedModel, shape: Shape) -> Callable[[], list[float]]:
    """The study's own; see :mod:`ctp_lib.evaluation.stitched_lm`. The prompt goes through the model in every round."""
    asked, words = requests(shape), tokenizer()
    prompt = model.get_input_embeddings().weight[: _prompt(shape)].detach()

    def score() -> list[float]:
        at_once = TOKENS_AT_ONCE[shape.device]
        lm = StitchedLM(Subject(model, prompt), words, max_length=_window(shape), tokens_at_once=at_once)
        return [likelihood for likelihood, _ in lm._loglikelihood_tokens(asked, disable_tqdm=True)]

    return score


def harness(model: PreTrainedModel, shape: Shape) -> Callable[[], list[float]]:
    """lm-eval's HFLM over PEFT's model, with as many tokens at once as ours."""
    rows = TOKENS_AT_ONCE[shape.device] // (CONTEXT + ANSWER)
    asked, words = requests(shape), tokenizer()
    adapted = peft_model(model, _prompt(shape))

    def score() -> list[float]:
        lm = HFLM(adapted, tokenizer=words, batch_size=rows, max_length=_window(shape), backend="causal")
        return [likelihood for likelihood, _ in lm._loglikelihood_tokens(asked, disable_tqdm=True)]

    return score


def flops(model: PreTrainedModel, shape: Shape) -> float:
    """Of what has to be computed at least: the prompt once, every context once, every answer; attention is left out."""
    inner, head = matrix_weights(model)
    asked = requests(shape)
    predicted, contexts = sum(len(answer) for _, _, answer in asked), sum(len(context) for _, context, _ in asked[::CHOICES])
    fed = _prompt(shape) + contexts + predicted - len(asked)  # no answer's last token
    shared = (CHOICES - 1) * ITEMS  # the first token of all answers of an item is predicted at the same position
    return 2 * (inner * fed + head * (predicted - shared))


def tokens(shape: Shape) -> int:
    """Real tokens that are asked about: context and answer of every request."""
    return sum(len(context) + len(answer) for _, context, answer in requests(shape))


BENCHMARK = Benchmark(
    name="zero_shot",
    title=f"{ITEMS} items of four answers behind a prompt of {PROMPT} vectors",
    sides={"ours": ours, "lm-eval over PEFT": harness},
    flops=flops,
    tokens=tokens,
    goals={"lm-eval over PEFT": 3.0},
    ceiling_goals={"smollm2": 0.75},
)

if __name__ == "__main__":
    measure.main(BENCHMARK)
