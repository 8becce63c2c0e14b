"""What is learned on a frozen model: LoRA that comes off again, equal bytes from equal seeds, and what a step has to keep."""

from __future__ import annotations

import copy
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import learn_prompt, random_windows, small_model
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict

from ctp_lib.claims import c1_hard_prompt
from ctp_lib.claims import c12_nearest_tokens as reading
from ctp_lib.evaluation.perplexity import perplexity_of
from ctp_lib.evaluation.subject import Subject
from ctp_lib.machine import step_cost
from ctp_lib.model import likelihood
from ctp_lib.recovery import comparison, hard_prompt
from ctp_lib.recovery.lora import METHOD as LORA_METHOD
from ctp_lib.recovery.soft_prompt import SoftPrompt
from ctp_lib.settings.learning import LoraSpec, SoftPromptSpec, TrainingSpec
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.text.selection import TrainingText

TRAINING = TrainingSpec(steps=8, batch_windows=4, learning_rate=0.02, warmup_steps=1, validate_every=4, checkpoint_every=3)
LORA = LoraSpec(rank=2, targets=("q_proj", "v_proj"), training=TRAINING, alpha=2.0)
WINDOWS = random_windows(6, 12)
TEXT = TrainingText(lambda step: WINDOWS.roll(step, 0)[:4], WINDOWS, "digest")  # few enough to learn in eight steps


def learn(folder, recipe=LORA, text=TEXT, seed=0):
    return LORA_METHOD.learn(small_model(), text, recipe, None, seed, checkpoint=folder / "c.safetensors", label="t")


def test_lora_learns_and_comes_off_again(tmp_path):
    network, learned = small_model(), learn(tmp_path)
    before, plain = small_model().state_dict(), likelihood.token_nll(small_model(), TEXT.validation)
    assert learned.run.best_step > 0 and learned.run.best_nll < learned.run.curve[0]["validation_nll"]
    with learned.on(network) as subject:
        assert perplexity_of(subject, TEXT.validation).nll == pytest.approx(learned.run.best_nll, abs=1e-6)
        assert not torch.equal(likelihood.token_nll(subject.network, TEXT.validation), plain)
    after = network.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items()) and len(after) == len(before)
    assert torch.equal(likelihood.token_nll(network, TEXT.validation), plain)


def test_a_saved_lora_comes_back_and_peft_opens_it(tmp_path):
    learned, network = learn(tmp_path), small_model()
    learned.save(tmp_path / "lora", ModelSpec("base"), network)
    again = LORA_METHOD.load(tmp_path / "lora", network)
    assert (again.parameters, again.bytes) == (learned.parameters, learned.bytes) == (2 * 2 * 2 * 64, 4 * 2 * 2 * 2 * 64)
    with learned.on(network) as subject:
        expected = perplexity_of(subject, TEXT.validation)
    with again.on(network) as subject:
        assert perplexity_of(subject, TEXT.validation) == expected
    theirs = PeftModel.from_pretrained(small_model(), tmp_path / "lora").eval()
    assert perplexity_of(Subject(theirs), TEXT.validation) == expected
    (tmp_path / "lora" / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(ParameterError, match="is not a readable LoRA"):
        LORA_METHOD.load(tmp_path / "lora", network)


def test_a_killed_lora_ends_in_the_same_bytes_dropout_and_all(tmp_path):
    whole = learn(tmp_path / "whole")

    def dies(step: int) -> torch.Tensor:
        if step == 7:
            raise KeyboardInterrupt
        return TEXT.batch(step)

    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "killed", text=TrainingText(dies, TEXT.validation, TEXT.digest))
    asked = []
    recording = TrainingText(lambda step: asked.append(step) or TEXT.batch(step), TEXT.validation, TEXT.digest)
    resumed = learn(tmp_path / "killed", text=recording)
    assert asked == [6, 7], "it must go on from its last checkpoint, not begin again"
    other = learn(tmp_path / "other", seed=1)
    assert all(torch.equal(resumed.weights[name], weight) for name, weight in whole.weights.items())
    assert not all(torch.equal(other.weights[name], weight) for name, weight in whole.weights.items())


def test_lora_without_dropout_takes_the_steps_of_plain_adamw(tmp_path):
    """Against PEFT, AdamW and a loop of five lines."""
    recipe = LoraSpec(rank=2, targets=("q_proj",), training=TRAINING, alpha=4.0, dropout=0.0)
    learned = learn(tmp_path, recipe)
    network = small_model()
    torch.manual_seed(0)
    plain = get_peft_model(network, LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in plain.parameters() if p.requires_grad], lr=0.02, weight_decay=0)
    for step in range(learned.run.best_step):
        factor = 0.5 if step == 0 else (8 - step) / 7
        optimizer.param_groups[0]["lr"] = 0.02 * factor
        ids = TEXT.batch(step)
        plain(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in plain.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        optimizer.zero_grad()
    for name, weight in get_peft_model_state_dict(plain).items():
        torch.testing.assert_close(learned.weights[name], weight, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.2], ids=["lora without dropout", "lora with dropout"])
def test_dropout_of_the_base_stays_off_and_that_of_lora_is_on(tmp_path, dropout):
    noisy, recipe = small_model(), replace(LORA, dropout=dropout)
    for layer in noisy.model.layers:
        layer.self_attn.attention_dropout = 0.5
    there = LORA_METHOD.learn(noisy, TEXT, recipe, None, 0, checkpoint=tmp_path / "noisy.safetensors", label="t")
    here, plain = learn(tmp_path / "quiet", recipe), learn(tmp_path / "plain", replace(LORA, dropout=0.0))
    assert all(torch.equal(there.weights[name], weight) for name, weight in here.weights.items())
    assert all(torch.equal(plain.weights[name], weight) for name, weight in here.weights.items()) == (dropout == 0.0)


def test_a_prompt_keeps_the_base_frozen_and_finds_a_better_place(tmp_path):
    network = small_model()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    recipe = SoftPromptSpec(corpus="c", prompt_tokens=3, training=TRAINING, seeds=(0,), initialisation="sampled")
    prompt, run = learn_prompt(network, recipe, TEXT, seed=0, checkpoint=tmp_path / "c.safetensors")
    assert run.best_nll < run.curve[0]["validation_nll"] and prompt().shape == (3, 32)
    assert all(torch.equal(network.state_dict()[name], weight) for name, weight in before.items())


def test_kept_bytes_of_one_matrix_by_hand():
    """A frozen matrix keeps nothing of its input; a trained one keeps the input, 4 bytes a number, once."""

    class Toy(torch.nn.Module):
        def __init__(self, trained: bool):
            super().__init__()
            self.table = torch.nn.Embedding(300, 8).requires_grad_(False)
            self.matrix = torch.nn.Linear(8, 300, bias=False).requires_grad_(trained)
            self.device = torch.device("cpu")

        def get_input_embeddings(self):
            return self.table

        def get_output_embeddings(self):
            return None

        def forward(self, inputs_embeds, use_cache, logits_to_keep):
            return type("Output", (), {"logits": self.matrix(inputs_embeds)[:, -logits_to_keep:]})

    batch = random_windows(2, 5)
    prompt = SoftPrompt(torch.randn(3, 8))
    frozen = step_cost.kept_bytes(step_cost.Candidate(Toy(False), list(prompt.parameters()), prompt), batch)
    trained = Toy(True)
    both = step_cost.kept_bytes(step_cost.Candidate(trained, [*trained.parameters(), *prompt.parameters()], prompt), batch)
    assert both - frozen == 2 * (3 + 5) * 8 * 4


def test_a_prompt_keeps_less_than_lora_and_lora_less_than_all_weights():
    batch = random_windows(4, 30)
    candidates = {
        "soft prompt": lambda: step_cost.soft_prompt(small_model(), 2),
        "LoRA": lambda: step_cost.lora(small_model(), LoraSpec(2, ("q_proj", "v_proj", "down_proj"), TRAINING)),
        "full": lambda: step_cost.full(small_model()),
    }
    table = step_cost.table(candidates, batch, repeats=1).set_index("method")
    assert table.activation_bytes["soft prompt"] < table.activation_bytes["LoRA"]
    assert table.activation_bytes["soft prompt"] < table.activation_bytes["full"]
    assert table.trainable_parameters["soft prompt"] == 64 and (table.seconds > 0).all()


def test_the_nearest_token_by_angle_and_by_distance():
    table = torch.tensor([[1.0, 0.0], [0.0, 3.0], [5.0, 5.0]])
    vectors = torch.tensor([[0.9, 0.7], [9.0, 0.1], [0.0, 1.0]])
    assert reading.nearest(vectors, table, "cosine").tolist() == [2, 0, 1]
    assert reading.nearest(vectors, table, "euclid").tolist() == [0, 2, 0]
    assert reading.cosines(vectors[2:], table[1:2]).tolist() == [1.0]


def test_a_hard_prompt_is_its_tokens_and_a_control_has_as_many(model, tokenizer):
    text = "Return the sum of the elements."
    prompt = hard_prompt.vectors(model, tokenizer, text)
    ids = tokenizer(text + "\n\n", add_special_tokens=False)["input_ids"]
    assert torch.equal(prompt, model.get_input_embeddings().weight[ids])
    for neutral in ("Raise.", "Raise an error when the axis is wrong, and return the sum of all elements of the array otherwise."):
        assert hard_prompt.vectors(model, tokenizer, neutral, like=text).shape == prompt.shape


@pytest.mark.parametrize(
    ("best", "further", "tried"),
    [
        (0.1, 2, [0.01, 0.1, 1.0]),
        (1.0, 2, [0.01, 0.1, 1.0, 10.0]),
        (1e-9, 2, [0.0001, 0.001, 0.01, 0.1, 1.0]),
        (1e-9, 0, [0.01, 0.1, 1.0]),
        (0.001, 5, [0.0001, 0.001, 0.01, 0.1, 1.0]),
    ],
)
def test_a_sweep_goes_on_while_the_best_rate_is_at_an_end(best, further, tried):
    found = comparison.sweep([0.01, 0.1, 1.0], lambda rate: abs(math.log(rate / best)), further)
    assert sorted(found) == pytest.approx(tried) and min(found, key=found.get) == pytest.approx(
        min(tried, key=lambda r: abs(math.log(r / best)))
    )


def test_a_single_rate_is_not_swept():
    assert comparison.sweep([0.5], lambda rate: rate, 2) == {0.5: 0.5}


def test_windows_a_few_at_a_time_take_the_same_steps(tmp_path):
    def learned(**changes):
        recipe = SoftPromptSpec(
            corpus="any", prompt_tokens=4, training=replace(TRAINING, **changes), seeds=(0,), initialisation="sampled"
        )
        label = "-".join(changes) or "plain"
        prompt, run = learn_prompt(small_model(), recipe, TEXT, seed=0, checkpoint=tmp_path / f"{label}.safetensors")
        return prompt().detach(), run

    (plain, run), (parts, run_in_parts) = learned(), learned(windows_at_once=3)
    torch.testing.assert_close(parts, plain, rtol=1e-4, atol=1e-5)
    assert run_in_parts.tokens == run.tokens and run_in_parts.best_nll == pytest.approx(run.best_nll, rel=1e-5)
    torch.testing.assert_close(learned(recompute=True)[0], plain, rtol=1e-4, atol=1e-5)
    if shutil.which("g++"):
        torch.testing.assert_close(learned(compile=True)[0], plain, rtol=1e-4, atol=1e-5)


def test_a_model_that_takes_instructions_is_asked_in_its_own_form(model, tokenizer, monkeypatch):
    chat = copy.deepcopy(tokenizer)
    chat.chat_template = (
        "{% for message in messages %}Q: {{ message.content }}{% endfor %}{% if add_generation_prompt %} A:{% endif %}"
    )
    seen = []
    monkeypatch.setattr(
        c1_hard_prompt, "write_on", lambda subject, _, ids, tokens: seen.append(chat.decode(ids)) or f" Au, says {len(seen)}"
    )
    spec = SimpleNamespace(
        texts={"paper": "Mind the weights."},
        neutral=["The sky.", "The sea."],
        questions={"Gold?": ["au"], "Fe?": ["Fe"]},
        continuation=4,
    )
    bench = SimpleNamespace(study=SimpleNamespace(hard_prompt=spec), tokenizer=chat, network=model, level="75%")
    rows = c1_hard_prompt.answers(bench, "paper")
    assert seen[:3] == ["Q: Gold? A:", "Q: Mind the weights.\n\nGold? A:", "Q: The sky.\n\nGold? A:"]
    assert [row["right"] for row in rows] == [True] * 3 + [False] * 3 and rows[1]["text"] == "paper"
    bench.tokenizer = tokenizer
    assert c1_hard_prompt.answers(bench, "paper") == []
