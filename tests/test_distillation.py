"""The divergence from the uncompressed model against PyTorch's own, all logits at once in float64; and what is learned with it."""

from __future__ import annotations

import contextlib
import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import families
import pytest
import torch
from conftest import ROOT, learn_prompt, random_windows, small_model
from torch.nn.functional import kl_div
from transformers import CohereConfig, PreTrainedModel

from ctp_lib.evaluation.perplexity import perplexity
from ctp_lib.machine import step_cost
from ctp_lib.model import divergence, likelihood, loading
from ctp_lib.model.divergence import Teacher
from ctp_lib.recovery.bench import Bench
from ctp_lib.recovery.lora import METHOD as LORA
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.recovery.soft_prompt import SoftPrompt
from ctp_lib.results import tensor_file
from ctp_lib.settings import study
from ctp_lib.settings.learning import LoraSpec, SoftPromptSpec, TrainingSpec
from ctp_lib.settings.levels import Level
from ctp_lib.text.selection import TrainingText

WINDOWS = random_windows(3, 20)
TRAINING = TrainingSpec(steps=30, batch_windows=2, learning_rate=0.1, warmup_steps=1, validate_every=5)
RECIPE = SoftPromptSpec(corpus="any", prompt_tokens=4, training=TRAINING, seeds=(0,), initialisation="sampled", loss="distillation")
TEXT = TrainingText(lambda step: WINDOWS.roll(step, 0)[:2], WINDOWS, "digest")


@pytest.fixture(autouse=True)
def chunks_that_do_not_divide(monkeypatch):
    monkeypatch.setitem(likelihood.ROWS_AT_ONCE, "cpu", 17)


def damaged(network: PreTrainedModel) -> PreTrainedModel:
    """A copy with noise in every matrix inside it: what compression does to a model, roughly."""
    worse, draw = copy.deepcopy(network), torch.Generator().manual_seed(7)
    with torch.no_grad():
        for module in loading.compressible(worse).values():
            noise = torch.randn(module.weight.shape, generator=draw, dtype=torch.float64)
            module.weight += (0.3 * module.weight.std() * noise).to(module.weight)
    return worse


def plain(network: PreTrainedModel, teacher: PreTrainedModel, prompt: torch.Tensor) -> torch.Tensor:
    """From all logits at once, by the textbook: sum of p (log p - log q)."""
    embedded = likelihood.stitched(network, WINDOWS, prompt)
    found = network(inputs_embeds=embedded).logits[:, -20:-1].log_softmax(-1)
    wanted = teacher(input_ids=WINDOWS).logits[:, :-1].log_softmax(-1)
    return kl_div(found, wanted, reduction="none", log_target=True).sum(-1)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_value_and_gradient_are_those_of_the_full_logits_in_float64(family):
    teacher = families.model(family)
    network = damaged(teacher)
    prompt = torch.randn(4, network.get_input_embeddings().weight.shape[1], generator=torch.Generator().manual_seed(1))
    exact = prompt.double().requires_grad_()
    expected = plain(copy.deepcopy(network).double(), copy.deepcopy(teacher).double(), exact)
    weights = torch.linspace(-1, 2, expected.numel()).view_as(expected)  # every token by its own weight
    (expected * weights).sum().backward()
    prompt.requires_grad_()
    found = divergence.token_divergence(network, WINDOWS, prompt, Teacher(teacher))
    (found * weights).sum().backward()
    assert found.dtype == torch.float32 and found.shape == (3, 19)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prompt.grad.double(), exact.grad, rtol=1e-3, atol=1e-5)


def test_logits_that_are_scaled_after_the_head_are_taken_whole():
    teacher = small_model(kind=CohereConfig, pad_token_id=0, logit_scale=0.5)
    network, prompt = damaged(teacher), torch.randn(4, 32)
    assert likelihood.frozen_head(network) is None
    found = divergence.token_divergence(network, WINDOWS, prompt, Teacher(teacher))
    torch.testing.assert_close(found, plain(network, teacher, prompt), rtol=1e-4, atol=1e-5)


def test_a_model_is_not_far_from_itself_and_the_teacher_stays_as_it_is(model):
    nothing = divergence.token_divergence(model, WINDOWS, None, Teacher(model))
    torch.testing.assert_close(nothing, torch.zeros(3, 19), rtol=0, atol=1e-5)
    trained = copy.deepcopy(model).requires_grad_(True)
    prompt = torch.randn(4, 32, requires_grad=True)
    divergence.token_divergence(model, WINDOWS, prompt, Teacher(trained)).mean().backward()
    assert prompt.grad.abs().sum() > 0 and all(weight.grad is None for weight in trained.parameters())


def test_a_distilled_prompt_and_lora_bring_the_model_nearer_to_its_teacher(model, tmp_path):
    network = damaged(model)
    torch.manual_seed(0)
    said = model.generate(random_windows(16, 1), do_sample=True, top_k=0, min_new_tokens=19, max_new_tokens=19)
    text = TrainingText(lambda step: said.roll(2 * step, 0)[:2], said, "digest")

    def distance(of: PreTrainedModel, prompt: torch.Tensor | None = None) -> float:
        return divergence.token_divergence(of, said, prompt, Teacher(model)).mean().item()

    settings = {"seed": 0, "label": "t", "teacher": Teacher(model)}
    start = SoftPrompt.from_vocabulary(network, 4, "sampled", 0)()
    prompt, run = learn_prompt(network, RECIPE, text, checkpoint=tmp_path / "p.safetensors", **settings)
    assert run.best_step > 0 and distance(network, prompt()) < distance(network, start)
    assert run.curve[1]["training_loss"] < 1 < run.curve[1]["validation_nll"], "the loss is a divergence, the validation an NLL"
    bare, lora = (
        distance(network),
        LoraSpec(4, ("q_proj", "v_proj", "down_proj"), replace(TRAINING, learning_rate=0.01), alpha=4.0, dropout=0.0),
    )
    adapter = LORA.learn(network, text, lora, Teacher(model), 0, checkpoint=tmp_path / "l.safetensors", label="t")
    with adapter.on(network) as subject:
        assert distance(subject.network) < bare
    assert distance(network) == bare


def test_a_checkpoint_of_another_teacher_is_not_taken_up(model, tmp_path):
    network, checkpoint, text = damaged(model), tmp_path / "c.safetensors", replace(TEXT)
    recipe = replace(RECIPE, training=replace(TRAINING, steps=2))
    learned = [
        learn_prompt(network, recipe, text, teacher=teacher, seed=0, checkpoint=checkpoint)[0]()
        for teacher in (Teacher(model), Teacher(damaged(network)), None)
    ]
    assert not torch.equal(learned[0], learned[1]) and not torch.equal(learned[1], learned[2])


def test_what_is_learned_on_the_uncompressed_model_has_the_plain_loss():
    settings = study.load(ROOT / "params.yaml")
    assert settings.soft_prompt.loss == "distillation"
    assert Bench(settings, "reference", Level.parse("75%")).lesson(PROMPT.name, 0).settings.loss == "distillation"
    assert Bench(settings, "reference", Level()).lesson(PROMPT.name, 0).settings.loss == "next-token"
    assert (
        Bench(settings, "reference", Level.parse("75%")).lesson(LORA.name, 0, {"training": {"learning_rate": 0.01}}).settings.loss
        == "distillation"
    )
    dense = Bench(settings, "reference", Level.parse("75%")).teacher
    assert loading.fingerprint(dense.network) == loading.fingerprint(loading.load_model(settings.model("reference")))


def test_a_distilled_step_keeps_no_more_for_its_backward_pass(model):
    by_text = step_cost.soft_prompt(small_model(), 4)
    distilled = replace(by_text, teacher=Teacher(model))
    assert step_cost.kept_bytes(distilled, WINDOWS) == step_cost.kept_bytes(by_text, WINDOWS)


def test_what_the_teacher_predicts_is_computed_once_and_kept_in_16_bits(model, tmp_path, monkeypatch):
    network, prompt = damaged(model), torch.randn(4, 32)
    exact = divergence.token_divergence(network, WINDOWS, prompt, Teacher(model))
    first = divergence.token_divergence(network, WINDOWS, prompt, Teacher(model, tmp_path))
    (kept,) = tmp_path.glob("*.safetensors")
    assert kept.stat().st_size < 2 * 3 * 19 * 32 + 200 and first.mean() == pytest.approx(exact.mean().item(), rel=1e-3)
    hook = model.model.register_forward_pre_hook(lambda *_: pytest.fail("asked again"))
    assert torch.equal(divergence.token_divergence(network, WINDOWS, prompt, Teacher(model, tmp_path)), first)
    hook.remove()
    kept.write_bytes(kept.read_bytes()[:50])
    assert torch.equal(divergence.token_divergence(network, WINDOWS, prompt, Teacher(model, tmp_path)), first), (
        "damaged, so made again"
    )
    monkeypatch.setattr(divergence, "AT_MOST", 100)
    full = Teacher(model, tmp_path / "full")
    assert torch.equal(divergence.token_divergence(network, WINDOWS, prompt, full), first), "the same where nothing can be kept"
    assert not list((tmp_path / "full").glob("*"))


def test_two_stages_that_keep_the_same_predictions_at_once_take_turns(tmp_path, monkeypatch):
    """Both write before either goes on, if they can; one would then move away what the other wrote."""
    write, both = tensor_file.save_file, threading.Barrier(2)

    def wait_for_the_other(*given, **more) -> None:
        write(*given, **more)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=2)

    monkeypatch.setattr(tensor_file, "save_file", wait_for_the_other)
    teachers = [Teacher(small_model(), tmp_path / "known") for _ in range(2)]
    with ThreadPoolExecutor(2) as stages:
        found = list(stages.map(lambda teacher: teacher.predicts(WINDOWS)[0], teachers))
    (kept,) = (tmp_path / "known").iterdir()
    assert torch.equal(*found) and torch.equal(tensor_file.load(kept)[0]["states"].float(), found[0])


def test_nll_and_divergence_of_one_pass_are_those_of_two(model):
    network, prompt = damaged(model), torch.randn(4, 32)
    with torch.inference_mode():
        nll, apart = divergence.nll_and_divergence(network, WINDOWS, prompt, Teacher(model))
        assert torch.equal(nll, likelihood.token_nll(network, WINDOWS, prompt))
        torch.testing.assert_close(apart, divergence.token_divergence(network, WINDOWS, prompt, Teacher(model)))
        scored = perplexity(network, WINDOWS, prompt, Teacher(model), batch_windows=1)
    assert scored.record()["kl"] == pytest.approx(apart.double().mean().item(), rel=1e-5)
    assert (
        scored.nll == perplexity(network, WINDOWS, prompt, batch_windows=1).nll
        and perplexity(network, WINDOWS).record()["kl"] is None
    )
