"""A model whose layers lie on several devices computes what it computes on one; here main memory and disk stand for two of them."""

from __future__ import annotations

import families
import pytest
import small_study
import torch

from ctp_lib.evaluation.subject import Subject, write_on
from ctp_lib.model import divergence, likelihood, loading
from ctp_lib.recovery import soft_prompt
from ctp_lib.settings.models import ModelSpec
from ctp_lib.text import selection

FAMILIES = ["llama", "opt", "gemma2"]  # untied, narrow embeddings, tied and capped


@pytest.fixture(params=FAMILIES)
def pair(request, tmp_path):
    families.save(request.param, tmp_path / "own")
    spec = ModelSpec(str(tmp_path / "own"))
    whole = loading.load_model(spec)
    layers = sum(weight.nbytes for weight in whole.get_decoder().layers[-1].parameters())
    rest = sum(weight.nbytes for weight in whole.parameters()) - layers
    spread = loading.load_model(spec, on=loading.SPREAD, most={"cpu": int(rest + 0.5 * layers)})
    places = {str(place) for place in spread.hf_device_map.values()}
    assert places == {"cpu", "disk"}
    return whole, spread


def test_scores_and_the_gradient_of_a_prompt_are_those_of_one_device(pair):
    windows = torch.randint(3, families.VOCABULARY, (2, 24), generator=torch.Generator().manual_seed(0))
    vectors = torch.randn(6, pair[0].get_input_embeddings().weight.shape[1], generator=torch.Generator().manual_seed(1))
    found = []
    for network in pair:
        prompt = vectors.clone().requires_grad_()
        teacher = divergence.Teacher(network)
        apart = divergence.token_divergence(network, windows, prompt, teacher)
        apart.mean().backward()
        nll = likelihood.token_nll(network, windows, likelihood.PromptCache(network, vectors))
        both = divergence.nll_and_divergence(network, windows, vectors, teacher)
        found.append((apart.detach(), prompt.grad, nll, *both))
    for one, spread in zip(*found, strict=True):
        torch.testing.assert_close(spread, one, rtol=1e-5, atol=1e-5)
    assert found[0][1].abs().max() > 1e-4


def test_it_writes_the_same(pair, tmp_path):
    tokenizer = loading.load_tokenizer(ModelSpec(str(tmp_path / "own")))
    prompt = torch.randn(4, pair[0].get_input_embeddings().weight.shape[1])
    whole, spread = (write_on(Subject(network, prompt), tokenizer, torch.arange(3, 12), 8) for network in pair)
    assert spread == whole


def test_a_prompt_is_learned_to_the_same_vectors(pair, tmp_path):
    settings = small_study.make(tmp_path / "study")
    tokenizer = loading.load_tokenizer(settings.model("own"))
    found = []
    for number, network in enumerate(pair):
        text = selection.training_text(settings, tokenizer, settings.soft_prompt.corpus, settings.soft_prompt.training, seed=0)
        given = network, text, settings.soft_prompt, divergence.Teacher(network), 0
        found.append(soft_prompt.METHOD.learn(*given, checkpoint=tmp_path / f"{number}.safetensors", label="").vectors)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)
