"""Prompts: the same tokens scored with and without, files that PEFT opens, hand-counted perplexities."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import random_windows, small_model
from peft import PeftModel
from torch import nn

from ctp_lib.evaluation.perplexity import Perplexity, bits_per_byte, perplexity
from ctp_lib.model.likelihood import token_nll
from ctp_lib.recovery.base import registry
from ctp_lib.recovery.soft_prompt import METHOD, WEIGHTS_FILE, Prompt, SoftPrompt
from ctp_lib.settings.learning import SoftPromptSpec, TrainingSpec
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.text.selection import TrainingText

WINDOWS = random_windows(3, 12)
TRAINING = TrainingSpec(steps=2, batch_windows=2, learning_rate=0.1, warmup_steps=0, validate_every=1)
RECIPE = SoftPromptSpec(prompt_tokens=4, training=TRAINING, corpus="broad", seeds=(0,))


def naive_nll(network, ids: torch.Tensor) -> torch.Tensor:
    """-log p of every token but the first, one window at a time, from full logits, in float64."""
    rows = []
    for row in ids:
        logp = network(row[None]).logits[0].double().log_softmax(-1)
        rows.append(torch.stack([-logp[i, row[i + 1]] for i in range(len(row) - 1)]))
    return torch.stack(rows)


def released_loss(network, ids: torch.Tensor, prompt: torch.Tensor) -> float:
    """The released evaluation: label -100 on the prompt, un-reduced cross-entropy, plain mean over all positions."""
    n = len(prompt)
    embedded = torch.cat([prompt.expand(len(ids), -1, -1), network.get_input_embeddings()(ids)], dim=1)
    logits = network(inputs_embeds=embedded).logits[:, :-1]
    labels = torch.cat([torch.full((len(ids), n), -100), ids], dim=1)[:, 1:].clone()
    labels[:, n - 1] = -100  # the first real token is context, as it is without a prompt
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").mean().item()


def test_nll_without_a_prompt_is_the_plain_one(model):
    assert torch.allclose(token_nll(model, WINDOWS).double(), naive_nll(model, WINDOWS), atol=1e-5)


def test_a_prompt_of_real_tokens_is_a_prefix(model):
    prefix = torch.tensor([5, 17, 250])
    with_prompt = token_nll(model, WINDOWS, model.get_input_embeddings()(prefix))
    prefixed = torch.cat([prefix.expand(3, 3), WINDOWS], dim=1)
    assert torch.allclose(with_prompt.double(), naive_nll(model, prefixed)[:, 3:], atol=1e-5)


def test_perplexity_of_a_model_that_guesses_is_its_vocabulary():
    network = small_model()
    network.get_output_embeddings().weight.data.zero_()
    result = perplexity(network, WINDOWS, torch.zeros(4, 32), batch_windows=2)
    assert (result.windows, result.window, result.prompt_tokens, result.tokens_scored) == (3, 12, 4, 33)
    assert result.ppl == pytest.approx(300, rel=1e-6)
    # 11 real tokens in a window, divided by 4 + 11 positions
    assert result.ppl_released == pytest.approx(300 ** (11 / 15), rel=1e-6)


def test_the_released_figure_is_what_the_released_loop_prints(model):
    prompt = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    result = perplexity(model, WINDOWS, prompt)
    assert result.ppl_released == pytest.approx(math.exp(released_loss(model, WINDOWS, prompt)), rel=1e-5)
    assert result.ppl == pytest.approx(math.exp(token_nll(model, WINDOWS, prompt).double().mean()), rel=1e-6)


def test_without_a_prompt_both_figures_agree(model):
    result = perplexity(model, WINDOWS)
    assert result.ppl_released == result.ppl
    assert result.ppl == pytest.approx(math.exp(naive_nll(model, WINDOWS).mean()), rel=1e-5)


def test_a_prompt_that_learned_nothing_looks_good_as_released():
    network = small_model()
    network.get_output_embeddings().weight.data.zero_()
    none, prompted = perplexity(network, WINDOWS), perplexity(network, WINDOWS, torch.zeros(100, 32))
    assert prompted.ppl == pytest.approx(none.ppl, rel=1e-9)
    assert prompted.ppl_released < none.ppl / 100


def test_perplexity_does_not_depend_on_the_batch(model):
    assert perplexity(model, WINDOWS, batch_windows=1).nll == pytest.approx(
        perplexity(model, WINDOWS, batch_windows=3).nll, rel=1e-6
    )


def test_a_model_that_answers_nan_is_not_given_a_figure(model):
    model.get_output_embeddings().weight.data.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        perplexity(model, WINDOWS)


def test_bits_per_byte_by_hand():
    # 2 nats per token, 4 bytes a token
    assert bits_per_byte(Perplexity((1.0, 3.0), 10, 0), 4.0) == pytest.approx(0.5 / math.log(2))


def test_prompts_start_from_the_vocabulary(model):
    table = model.get_input_embeddings().weight
    assert torch.equal(SoftPrompt.from_vocabulary(model, 7, "first", seed=0)(), table[:7])
    sampled = SoftPrompt.from_vocabulary(model, 7, "sampled", seed=0)()
    assert torch.equal(sampled, SoftPrompt.from_vocabulary(model, 7, "sampled", seed=0)())
    assert not torch.equal(sampled, SoftPrompt.from_vocabulary(model, 7, "sampled", seed=1)())
    assert all((table == row).all(1).any() for row in sampled)
    with pytest.raises(ParameterError, match="the vocabulary has 300 tokens"):
        SoftPrompt.from_vocabulary(model, 301, "first", seed=0)


def test_peft_opens_a_saved_prompt_and_gives_the_same_logits(model, tmp_path):
    prompt = SoftPrompt(torch.randn(6, 32, generator=torch.Generator().manual_seed(0)))
    base = tmp_path / "base"
    model.save_pretrained(base)
    Prompt(prompt()).save(tmp_path / "prompt", ModelSpec(str(base)), model)
    theirs = PeftModel.from_pretrained(small_model(seed=0), tmp_path / "prompt").eval()
    assert theirs.active_peft_config.num_virtual_tokens == 6
    assert theirs.active_peft_config.base_model_name_or_path == str(base)
    embedded = torch.cat([prompt().expand(3, 6, 32), model.get_input_embeddings()(WINDOWS)], dim=1)
    ours = model(inputs_embeds=embedded).logits
    attention = torch.ones_like(WINDOWS)
    with torch.no_grad():
        assert torch.allclose(theirs(input_ids=WINDOWS, attention_mask=attention).logits, ours, atol=1e-5)


def test_a_saved_prompt_comes_back(model, tmp_path):
    prompt = SoftPrompt(torch.randn(6, 32))
    Prompt(prompt()).save(tmp_path, ModelSpec("base"), model)
    assert torch.equal(METHOD.load(tmp_path, model).vectors, prompt())


def test_prompts_that_do_not_fit_or_are_damaged_are_refused(model, tmp_path):
    Prompt(torch.zeros(4, 16)).save(tmp_path, ModelSpec("base"), model)
    with pytest.raises(ParameterError, match=r"is \(4, 16\); this model takes n x 32"):
        METHOD.load(tmp_path, model)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"torn")
    with pytest.raises(ParameterError, match="not a readable prompt"):
        METHOD.load(tmp_path, model)


def test_controls_are_tokens_of_the_vocabulary_that_nobody_learned(model, tokenizer, tmp_path):
    batch = random_windows(2, 12)
    text = TrainingText(lambda step: batch, batch, "digest", tokenizer=tokenizer)
    embed, found = model.get_input_embeddings().weight, {}
    for name in ("sink", "random_prefix", "text_prefix"):
        method = registry().get(name)
        learned = method.learn(model, text, RECIPE, None, 3, checkpoint=tmp_path / "c", label="t", others=None)
        assert (learned.parameters, learned.bytes, learned.run, method.control) == (0, 4 * learned.vectors.numel(), None, True)
        (tmp_path / name).mkdir()
        learned.save(tmp_path / name, ModelSpec("base"), model)
        assert torch.equal(method.load(tmp_path / name, model).vectors, learned.vectors)
        found[name] = learned.vectors
    assert torch.equal(found["sink"], embed[[tokenizer.eos_token_id]])
    assert torch.equal(found["text_prefix"], embed[batch[0][: RECIPE.prompt_tokens]])
    start = SoftPrompt.from_vocabulary(model, RECIPE.prompt_tokens, "sampled", 3)()
    assert torch.equal(found["random_prefix"], start), "where a prompt of that seed starts"
