"""The NLL in chunks against the full logits in float64, and its gradient against autograd's and a finite difference."""

from __future__ import annotations

import copy

import families
import pytest
import torch
from conftest import random_windows, small_model
from torch import nn
from transformers import AutoModelForCausalLM, CohereConfig, GraniteConfig, MambaConfig, Qwen3NextConfig, RecurrentGemmaConfig

from ctp_lib.machine import memory, step_cost
from ctp_lib.model import likelihood
from ctp_lib.recovery import lora
from ctp_lib.settings.learning import LoraSpec, TrainingSpec
from ctp_lib.settings.spec import ParameterError

WINDOWS = random_windows(3, 20)


@pytest.fixture(autouse=True)
def chunks_that_do_not_divide(monkeypatch):
    monkeypatch.setitem(likelihood.ROWS_AT_ONCE, "cpu", 17)


def plain(network, prompt: torch.Tensor) -> torch.Tensor:
    """From all logits at once."""
    embedded = likelihood.stitched(network, WINDOWS, prompt)
    logits = network(inputs_embeds=embedded).logits[:, -20:-1]
    return nn.functional.cross_entropy(logits.flatten(0, 1), WINDOWS[:, 1:].flatten(), reduction="none").view(3, 19)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_value_and_gradient_are_those_of_the_full_logits_in_float64(family):
    network = families.model(family)
    prompt = torch.randn(4, network.get_input_embeddings().weight.shape[1], generator=torch.Generator().manual_seed(1))
    exact = prompt.double().requires_grad_()
    expected = plain(copy.deepcopy(network).double(), exact)
    weights = torch.linspace(-1, 2, expected.numel()).view_as(expected)  # every token by its own weight
    (expected * weights).sum().backward()
    prompt.requires_grad_()
    found = likelihood.token_nll(network, WINDOWS, prompt)
    (found * weights).sum().backward()
    assert likelihood.frozen_head(network) is not None
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(prompt.grad.double(), exact.grad, rtol=1e-3, atol=1e-5)


def test_half_precision_keeps_the_nll_in_fp32(model):
    half = copy.deepcopy(model).to(torch.bfloat16)
    exact = copy.deepcopy(half).double()
    found, expected = likelihood.token_nll(half, WINDOWS), likelihood.token_nll(exact, WINDOWS)
    assert found.dtype == torch.float32
    assert found.mean().item() == pytest.approx(expected.mean().item(), abs=5e-3)
    slopes = []
    for network in (half, exact):
        start = torch.randn(4, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        prompt = start.to(network.dtype).requires_grad_()
        likelihood.token_nll(network, WINDOWS, prompt).sum().backward()
        slopes.append(prompt.grad.double().flatten())
    assert torch.nn.functional.cosine_similarity(*slopes, dim=0) > 0.999


@pytest.mark.parametrize(("kind", "scaled"), [(CohereConfig, {"logit_scale": 0.5}), (GraniteConfig, {"logits_scaling": 4.0})])
def test_logits_that_are_scaled_after_the_head_are_taken_whole(kind, scaled):
    network, prompt = small_model(kind=kind, pad_token_id=0, **scaled), torch.randn(4, 32)
    assert likelihood.frozen_head(network) is None
    torch.testing.assert_close(likelihood.token_nll(network, WINDOWS, prompt), plain(network, prompt), rtol=1e-5, atol=1e-5)


def test_a_head_that_is_trained_is_trained():
    network = small_model().requires_grad_(True)
    assert likelihood.frozen_head(network) is None
    likelihood.token_nll(network, WINDOWS).mean().backward()
    weight, step = network.get_output_embeddings().weight, 1e-2
    with torch.no_grad():
        weight[5, 3] += step
        above = likelihood.token_nll(network, WINDOWS).double().mean()
        weight[5, 3] -= 2 * step
        below = likelihood.token_nll(network, WINDOWS).double().mean()
    assert weight.grad[5, 3].item() == pytest.approx(((above - below) / (2 * step)).item(), rel=2e-2)
    assert likelihood.frozen_head(network.requires_grad_(False)) is not None


def test_lora_goes_through_the_same_head(model):
    training = TrainingSpec(steps=1, batch_windows=1, learning_rate=0.1, warmup_steps=0, validate_every=1)
    adapted = lora.with_lora(model, LoraSpec(2, ("q_proj",), training, dropout=0.0))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(0))
    expected = plain(adapted, torch.zeros(0, 32))
    torch.testing.assert_close(likelihood.token_nll(adapted, WINDOWS), expected, rtol=1e-5, atol=1e-5)
    assert likelihood.frozen_head(adapted) is not None


def test_looking_at_the_head_leaves_the_draws_of_dropout_alone():
    network = families.model("opt").train()  # drops activations, and draws whether to leave a layer out
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert likelihood.frozen_head(network) is not None
    assert torch.rand(1) == drawn
    torch.manual_seed(3)
    network(input_ids=WINDOWS)
    assert torch.rand(1) != drawn


def test_a_head_that_is_replaced_is_found_again():
    network = small_model()
    before = likelihood.token_nll(network, WINDOWS)
    network.resize_token_embeddings(310)
    network.requires_grad_(False)
    torch.testing.assert_close(likelihood.token_nll(network, WINDOWS), plain(network, torch.zeros(0, 32)), rtol=1e-5, atol=1e-5)
    assert not torch.equal(likelihood.token_nll(network, WINDOWS), before)


@pytest.mark.parametrize("trained", [True, False], ids=["a step", "an evaluation"])
def test_one_chunk_of_logits_is_held_at_a_time(monkeypatch, trained):
    rows, vocabulary = 64, 5000
    monkeypatch.setitem(likelihood.ROWS_AT_ONCE, "cpu", rows)
    network = small_model(layers=1)
    network.resize_token_embeddings(vocabulary)
    network.requires_grad_(False)
    windows = random_windows(4, 64, vocabulary=vocabulary)
    candidate = step_cost.soft_prompt(network, 4)
    optimizer = torch.optim.AdamW(candidate.trainable, lr=0.0)
    candidate.step(windows, optimizer)
    with memory.PeakBytes(network.parameters()) as counted, torch.set_grad_enabled(trained):
        candidate.step(windows, optimizer) if trained else likelihood.token_nll(network, windows)
    one = 4 * rows * vocabulary
    assert one <= counted.peak < 2 * one


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_gradient_of_a_prompt_that_is_read_once_is_that_of_one_in_every_row(family):
    network, found = families.model(family), []
    torch.manual_seed(0)
    windows, vectors = (
        torch.randint(3, families.VOCABULARY, (3, 24)),
        torch.randn(20, network.get_input_embeddings().embedding_dim),
    )  # longer than a sliding window
    for once in (False, True):
        prompt = vectors.clone().requires_grad_()
        nll = likelihood.token_nll(
            network, windows, likelihood.PromptCache(network, prompt, with_gradient=True) if once else prompt
        )
        nll.mean().backward()
        found.append((nll.detach(), prompt.grad))
    (nll, gradient), (nll_once, gradient_once) = found
    assert gradient.abs().max() > 1e-4
    torch.testing.assert_close(nll_once, nll, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient_once, gradient, rtol=1e-4, atol=1e-5 * gradient.abs().max().item())


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_prompt_is_read_once_in_every_family(family, dtype):
    likelihood.check_prompt_cache(families.model(family).to(dtype))


@pytest.mark.parametrize(
    "config",
    [
        MambaConfig(vocab_size=300, hidden_size=64, num_hidden_layers=2, state_size=8),  # scored as if there were no prompt
        RecurrentGemmaConfig(
            **families.COMMON | {"num_hidden_layers": 3, "lru_width": 32}, attention_window_size=64
        ),  # off by 0.05 nats
        Qwen3NextConfig(**families.COMMON, num_experts=0),
    ],
    ids=lambda config: config.model_type,
)
def test_a_model_that_keeps_more_than_keys_and_values_is_refused(config):
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ParameterError, match="keeps more than keys and values between tokens, so a prompt cannot be read once"):
        likelihood.check_prompt_cache(network)
