"""Other ways to repair than prompts and LoRA, each against an oracle, and on every family of models: put on, taken off, read back."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import families
import pytest
import torch
from conftest import random_windows, small_model
from peft import LNTuningConfig, LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from ctp_lib.evaluation.perplexity import perplexity, perplexity_of
from ctp_lib.evaluation.stitched_lm import StitchedLM
from ctp_lib.evaluation.subject import Subject, continuation_nll, write_on
from ctp_lib.model import likelihood, loading
from ctp_lib.model.divergence import Teacher
from ctp_lib.recovery import dept, eora, idp, intact_kv, kv_prefix, lora, merged_lora, norms, output_bias, output_head, temperature
from ctp_lib.recovery.base import settings_of
from ctp_lib.settings import study
from ctp_lib.settings.learning import LoraSpec, TrainingSpec, TunedSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.text.selection import TrainingText

TRAINING = TrainingSpec(steps=8, batch_windows=4, learning_rate=0.02, warmup_steps=1, validate_every=4)
WINDOWS = random_windows(6, 12)
TEXT = TrainingText(lambda step: WINDOWS.roll(step, 0)[:4], WINDOWS, "digest", lambda: random_windows(16, 24, seed=3))
DEPT = dept.DeptSpec(prompt_tokens=10, training=TRAINING, positions=8, offset_rate=0.01)
SETTINGS = {
    norms.METHOD: TunedSpec(TRAINING), temperature.METHOD: TunedSpec(TRAINING), output_bias.METHOD: TunedSpec(TRAINING),
    eora.METHOD: eora.EoraSpec(4), kv_prefix.METHOD: kv_prefix.KvPrefixSpec(tokens=4, training=TRAINING),
    intact_kv.METHOD: SimpleNamespace(prompt_tokens=4),
    merged_lora.METHOD: merged_lora.MergedLoraSpec(rank=2, training=TRAINING),
    dept.METHOD: DEPT,
    idp.METHOD: idp.IdpSpec(prompt_tokens=6, training=TRAINING, lengths=(2, 6), reads=8),
}  # fmt: skip


def pruned(network):
    for module in loading.compressible(network).values():
        module.weight.data[:, ::2] = 0
    return network


def learn(method, network, folder, teacher=None, settings=None):
    asked = settings or SETTINGS[method]
    return method.learn(network, TEXT, asked, teacher, 0, checkpoint=folder / "c.safetensors", label="t", others=None)


USUAL = ("llama", "opt", "gemma2")  # the others in the long tests
PAIRS = [
    pytest.param(method, family, id=f"{method.name}-{family}", marks=() if family in USUAL else pytest.mark.long)
    for method in SETTINGS
    for family in families.FAMILIES
]


@pytest.mark.parametrize(("method", "family"), PAIRS)
def test_it_is_put_on_taken_off_and_read_back(method, family, tmp_path):
    network, teacher = pruned(families.model(family)), Teacher(families.model(family))
    before, plain = loading.fingerprint(network), likelihood.token_nll(network, WINDOWS)
    head = network.get_output_embeddings()
    learned = learn(method, network, tmp_path, teacher if method is eora.METHOD else None)
    assert loading.fingerprint(network) == before and not any(weight.requires_grad for weight in network.parameters())
    learned.save(tmp_path / "kept", ModelSpec("base"), network)
    again, found = method.load(tmp_path / "kept", network), []
    for one in (learned, again):
        with one.on(network) as subject:
            nll = torch.zeros(len(WINDOWS), WINDOWS.shape[1] - 1)
            for rows, part in subject.routed(WINDOWS):
                behind = None if part.prompt is None else likelihood.PromptCache(network, part.prompt)
                nll[rows] = likelihood.token_nll(part.network, WINDOWS[rows], behind)
                cache = likelihood.after_prompt(network, part.prompt)
                for row in rows:  # without the short way that scoring takes
                    whole = part.network(WINDOWS[row][None], past_key_values=copy.deepcopy(cache), use_cache=True).logits[0, :-1]
                    assert torch.allclose(cross_entropy(whole, WINDOWS[row, 1:], reduction="none"), nll[row], atol=1e-4)
            found.append(nll)
            assert perplexity_of(subject, WINDOWS).nll == pytest.approx(nll.double().mean().item(), abs=1e-6)
    assert torch.equal(*found) and not torch.allclose(found[0], plain, atol=1e-4)
    assert (again.parameters, again.bytes) == (learned.parameters, learned.bytes)
    assert loading.fingerprint(network) == before and network.get_output_embeddings() is head
    assert torch.equal(likelihood.token_nll(network, WINDOWS), plain)


@pytest.mark.parametrize(
    "method",
    [norms.METHOD, temperature.METHOD, output_bias.METHOD, kv_prefix.METHOD, merged_lora.METHOD],
    ids=lambda method: method.name,
)
def test_the_best_step_is_what_is_kept(method, tmp_path):
    network = pruned(small_model())
    learned = learn(method, network, tmp_path)
    with learned.on(network) as subject:
        assert perplexity_of(subject, WINDOWS).nll == pytest.approx(learned.run.best_nll, abs=1e-6)
    assert learned.run.best_nll < learned.run.curve[0]["validation_nll"]


TRAINED = {
    **{method: SETTINGS[method] for method in (norms.METHOD, merged_lora.METHOD, kv_prefix.METHOD, dept.METHOD)},
    lora.METHOD: LoraSpec(2, ("q_proj", "v_proj"), TRAINING, alpha=2.0),
}


@pytest.mark.parametrize("method", TRAINED, ids=lambda method: method.name)
def test_what_the_training_asks_for_is_done_whatever_is_trained(method, tmp_path, monkeypatch):
    """Recomputed, the first layer runs once more in every step, to the same end; compiled, every layer is translated."""

    def learned(**asked):
        network, ran = small_model(), []
        network.model.layers[0].self_attn.o_proj.register_forward_pre_hook(lambda *_: ran.append(1))
        settings = replace(TRAINED[method], training=replace(TRAINING, **asked))
        return learn(method, network, tmp_path / "-".join(asked), settings=settings).run.best_nll, len(ran)

    (plain, once), (again, twice) = learned(), learned(recompute=True)
    assert again == pytest.approx(plain, rel=1e-4) and twice == once + TRAINING.steps
    translated = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer: translated.append(type(layer).__name__))
    learned(compile=True)
    assert translated == ["LlamaDecoderLayer"] * 2


def test_norms_take_the_steps_that_pefts_take(tmp_path):
    """A Llama has norms and no biases, so PEFT's LN_TUNING trains the same; a constant rate, so that a plain loop is enough."""
    constant = replace(TRAINING, warmup_steps=0, schedule="trapezoid", steps=3, validate_every=3, clip=1e9)
    learned = learn(norms.METHOD, small_model(), tmp_path, settings=TunedSpec(replace(constant, steps=10)))
    theirs = get_peft_model(small_model(), LNTuningConfig(target_modules=["input_layernorm", "post_attention_layernorm", "norm"]))
    weights = [weight for weight in theirs.parameters() if weight.requires_grad]
    assert learned.parameters == sum(weight.numel() for weight in weights) and learned.bytes == 0
    optimizer, losses = torch.optim.AdamW(weights, lr=TRAINING.learning_rate, weight_decay=0.0), []
    for step in range(7):  # the trapezoid falls after seven of ten
        loss = theirs(TEXT.batch(step), labels=TEXT.batch(step)).loss
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    assert learned.run.curve[1]["training_loss"] == pytest.approx(sum(losses[:3]) / 3, abs=1e-5)


def test_norms_learn_in_16_bits_too(tmp_path):
    """A step of 1e-3 is lost in the rounding of a bf16 number near one; many together are not."""
    network = small_model().bfloat16()
    learned = learn(
        norms.METHOD, network, tmp_path, settings=TunedSpec(replace(TRAINING, learning_rate=1e-3, steps=30, validate_every=10))
    )
    assert learned.run.best_nll < learned.run.curve[0]["validation_nll"] and network.dtype == torch.bfloat16


def test_logits_are_scaled_and_shifted_as_by_hand():
    network = small_model()
    hidden = network.model(WINDOWS).last_hidden_state
    logits = network(WINDOWS).logits.double()
    bias = torch.randn(logits.shape[-1], generator=torch.Generator().manual_seed(0))
    for tensors, expected in (({"scale": torch.tensor(0.7)}, 0.7 * logits), ({"bias": bias}, logits + bias)):
        with output_head.OnLogits(tensors).on(network) as subject:
            assert torch.allclose(subject.network.lm_head(hidden).double(), expected, atol=1e-5)
            by_hand = cross_entropy(expected[:, :-1].flatten(0, 1), WINDOWS[:, 1:].flatten())
            assert perplexity(subject.network, WINDOWS).nll == pytest.approx(by_hand.item(), abs=1e-5)


def test_the_temperature_is_the_best_one(tmp_path):
    """Of a model whose logits are three times too large: the NLL at the scale found is that of the best scale on a fine grid, nearly."""
    network = small_model()
    network.lm_head.weight.data.mul_(3)
    spec = TunedSpec(replace(TRAINING, steps=80, validate_every=40, learning_rate=0.05))
    learned = temperature.METHOD.learn(
        network, replace(TEXT, batch=lambda step: WINDOWS), spec, None, 0, checkpoint=tmp_path / "c", label="t"
    )
    logits, targets = network(WINDOWS).logits.double()[:, :-1].flatten(0, 1), WINDOWS[:, 1:].flatten()
    best = min(cross_entropy(scale * logits, targets).item() for scale in torch.linspace(0, 1, 201))
    assert learned.run.best_nll == pytest.approx(best, abs=1e-3)


# ----------------------------------------------------------------------------------------------------- merged LoRA


def test_without_zeros_a_merged_lora_takes_the_steps_that_pefts_takes(tmp_path):
    """The same start, and a mask of ones: PEFT's LoRA on every matrix, in a plain loop, has the same losses."""
    network, spec = (
        small_model(),
        merged_lora.MergedLoraSpec(
            rank=2, training=replace(TRAINING, warmup_steps=0, schedule="trapezoid", steps=10, validate_every=3)
        ),
    )
    learned = learn(merged_lora.METHOD, network, tmp_path, settings=spec)
    theirs = get_peft_model(small_model(), LoraConfig(r=2, lora_alpha=2, target_modules="all-linear", lora_dropout=0.0))
    generator = torch.Generator().manual_seed(0)
    for name in loading.compressible(small_model()):
        thin = theirs.get_submodule(f"base_model.model.{name}").lora_A["default"].weight
        torch.nn.init.kaiming_uniform_(thin, a=5**0.5, generator=generator)
    weights = [weight for weight in theirs.parameters() if weight.requires_grad]
    optimizer, losses = torch.optim.AdamW(weights, lr=TRAINING.learning_rate, weight_decay=0.0), []
    for step in range(3):
        loss = theirs(TEXT.batch(step), labels=TEXT.batch(step)).loss
        loss.backward()
        losses.append(loss.item())
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert learned.run.curve[1]["training_loss"] == pytest.approx(sum(losses) / 3, abs=1e-5)


@pytest.mark.parametrize(
    ("level", "masked", "bytes_of_each"), [("50%", True, 0), ("3bit", False, 2), ("50%+4bit", True, 2), ("full", False, 0)]
)
def test_what_was_pruned_stays_zero_and_a_grid_is_left(tmp_path, level, masked, bytes_of_each):
    """Zero is a value of a grid as well; only where a model was pruned, it is a mask."""
    network = pruned(small_model())
    network.compressed_to = Level.parse(level)
    learned = learn(merged_lora.METHOD, network, tmp_path)
    matrices = loading.compressible(network)
    zeros = {name: module.weight == 0 for name, module in matrices.items()}
    with learned.on(network):
        assert all(torch.equal(module.weight == 0, zeros[name]) == masked for name, module in matrices.items())
    kept = sum(int((~zeros[name]).sum()) if masked else module.weight.numel() for name, module in matrices.items())
    assert learned.bytes == bytes_of_each * kept


def test_zeros_stay_zero_and_nothing_is_added(tmp_path):
    network = pruned(small_model())
    learned = learn(merged_lora.METHOD, network, tmp_path)
    zeros = {name: module.weight == 0 for name, module in loading.compressible(network).items()}
    with learned.on(network):
        assert all(torch.equal(module.weight == 0, zeros[name]) for name, module in loading.compressible(network).items())
    assert learned.bytes == 0 and learned.parameters == sum(
        2 * (m.in_features + m.out_features) for m in loading.compressible(network).values()
    )


# ------------------------------------------------------------------------------------------------- keys and values


def test_peft_opens_a_prefix_and_gives_the_same_logits(tmp_path):
    network = small_model()
    learned = learn(kv_prefix.METHOD, network, tmp_path)
    learned.save(tmp_path / "prefix", ModelSpec("base"), network)
    theirs = PeftModel.from_pretrained(small_model(), tmp_path / "prefix").eval()
    with learned.on(network) as subject:
        ours = network(WINDOWS[:1], past_key_values=likelihood.after_prompt(network, subject.prompt)).logits
    assert torch.allclose(theirs(WINDOWS[:1]).logits, ours, atol=1e-5)
    assert learned.parameters == 4 * 2 * sum(shape.numel() for shape in kv_prefix.shapes(network)) == learned.bytes / 4


@pytest.mark.parametrize("family", families.FAMILIES)
def test_keys_and_values_of_a_text_are_that_text(family):
    """The text before the windows, as tokens; and the gradient by a key is that of a finite difference."""
    network, ids = families.model(family), torch.arange(20, 24)
    flat = kv_prefix.of_tokens(network, ids)
    cache = likelihood.PromptCache(network, kv_prefix.unflattened(flat, network))
    whole = network(torch.cat([ids.expand(len(WINDOWS), -1), WINDOWS], 1)).logits[:, len(ids) : -1]
    expected = cross_entropy(whole.flatten(0, 1), WINDOWS[:, 1:].flatten(), reduction="none")
    assert torch.allclose(likelihood.token_nll(network, WINDOWS, cache).flatten(), expected, atol=1e-4)
    flat.requires_grad_(True)
    likelihood.token_nll(network, WINDOWS, kv_prefix.unflattened(flat, network)).double().mean().backward()
    direction, losses = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0)), []
    for step in (0.003, -0.003):
        moved = kv_prefix.unflattened(flat.detach() + step * direction, network)
        losses.append(likelihood.token_nll(network, WINDOWS, moved).double().mean().item())
    slope = (flat.grad * direction).sum().item()
    assert slope == pytest.approx((losses[0] - losses[1]) / 0.006, rel=0.05, abs=1e-4)


def test_behind_keys_and_values_it_answers_and_writes_as_behind_their_text():
    """The same subject twice: a text as vectors, and as its keys and values."""
    network, ids = families.model("llama"), torch.arange(20, 26)
    vectors = network.get_input_embeddings()(ids)
    subjects = Subject(network, vectors), Subject(network, kv_prefix.unflattened(kv_prefix.of_tokens(network, ids), network))
    assert [subject.prompt_tokens for subject in subjects] == [6, 6]
    wrote = [write_on(subject, families.tokenizer("llama"), WINDOWS[0], 12) for subject in subjects]
    assert wrote[0] == wrote[1]
    requests = [(("", ""), WINDOWS[row, :5].tolist(), WINDOWS[row, 5:8].tolist()) for row in range(4)]
    one, other = (
        StitchedLM(subject, families.tokenizer("llama"), max_length=64, tokens_at_once=256)._loglikelihood_tokens(requests)
        for subject in subjects
    )
    assert [value for value, _ in one] == pytest.approx([value for value, _ in other], abs=1e-4)
    nll = [continuation_nll(subject, WINDOWS, 4) for subject in subjects]
    assert torch.allclose(*nll, atol=1e-5)


def test_text_is_the_likeliest_token_each_time_whatever_else_the_model_asks_for():
    """By hand, behind a text, its vectors, and its keys and values. Qwen's models ask for a penalty on repetitions, and name two ends."""
    network, tokenizer, ids = families.model("llama"), families.tokenizer("llama"), torch.arange(20, 26)

    def by_hand(context: torch.Tensor, ends: list[int]) -> list[int]:
        made: list[int] = []
        while len(made) < 20 and not set(made).intersection(ends):
            read = torch.cat([ids, context, torch.tensor(made, dtype=torch.int64)])
            made.append(network(read[None]).logits[0, -1].argmax().item())
        return made

    texts = [by_hand(window, [0]) for window in WINDOWS]
    assert any(len(set(text)) < len(text) for text in texts), "there are repetitions"
    ends = [0, texts[0][len(texts[0]) // 2]]
    expected = [tokenizer.decode(by_hand(window, ends), skip_special_tokens=True) for window in WINDOWS]
    own = network.generation_config
    own.eos_token_id, own.repetition_penalty, own.no_repeat_ngram_size = ends, 5.0, 1
    vectors, keys = network.get_input_embeddings()(ids), kv_prefix.unflattened(kv_prefix.of_tokens(network, ids), network)
    for prompt in (vectors, keys):
        assert [write_on(Subject(network, prompt), tokenizer, window, 20) for window in WINDOWS] == expected


@pytest.mark.parametrize("name", ["kv_prefix", "intact_kv", "text_prefix"])
def test_what_is_taken_of_a_text_has_no_more_tokens_than_that_text(name):
    """It would have fewer than it says."""
    settings = study.load()
    windows = settings.soft_prompt.training.batch_windows if name == "text_prefix" else 1
    most, prompts = windows * settings.evaluation.window, settings.soft_prompt

    def asked(tokens: int):
        own = {"tokens": tokens} if name == "kv_prefix" else {}
        methods = {"soft_prompt": {}, name: own}
        return settings_of(replace(settings, soft_prompt=replace(prompts, prompt_tokens=tokens), methods=methods), name)

    assert most in asked(most).values()
    with pytest.raises(ParameterError, match=rf"methods\.{name}.* is {most + 1}; allowed is .*{most}"):
        asked(most + 1)


# ------------------------------------------------------------------------------------------------------------ DePT


@pytest.mark.parametrize("tokens", [10, 20, 100])
def test_a_decomposed_prompt_has_no_more_parameters_than_a_plain_one(tokens):
    vectors, rank = replace(DEPT, prompt_tokens=tokens, positions=16).sizes(32)
    assert vectors == round(0.4 * tokens)
    assert 0.7 * tokens * 32 < vectors * 32 + rank * (16 + 32) <= tokens * 32


def test_offsets_follow_the_position_of_a_token_wherever_it_is_read():
    """Embeddings moved by hand, all at once: scored, answered (a context once, its answers behind it), and written on alike."""
    network, draw = families.model("llama"), torch.Generator().manual_seed(0)
    prompt, left, right = (torch.randn(*size, generator=draw) / 4 for size in ((3, 32), (8, 2), (2, 32)))
    learned = dept.DecomposedPrompt({"prompt": prompt, "left": left, "right": right})

    def logits(ids: torch.Tensor) -> torch.Tensor:
        embedded = network.get_input_embeddings()(ids).clone()
        embedded[:8] += (left @ right)[: len(ids)]
        return network(inputs_embeds=torch.cat([prompt, embedded])[None]).logits[0, 3:]

    expected = [cross_entropy(logits(window)[:-1], window[1:], reduction="none") for window in WINDOWS]
    requests = [(("", ""), WINDOWS[0, :5].tolist(), WINDOWS[row, 5:9].tolist()) for row in range(4)]
    written = WINDOWS[0, :6]
    while len(written) < 12:
        written = torch.cat([written, logits(written)[-1:].argmax(-1)])
    with learned.on(network) as subject:
        nll = likelihood.token_nll(network, WINDOWS, likelihood.PromptCache(network, subject.prompt))
        assert torch.allclose(nll, torch.stack(expected), atol=1e-4)
        lm = StitchedLM(subject, families.tokenizer("llama"), max_length=64, tokens_at_once=256)
        answers = [value for value, _ in lm._loglikelihood_tokens(requests)]
        wrote = write_on(subject, families.tokenizer("llama"), WINDOWS[0, :6], 6)
    for (_, context, answer), found in zip(requests, answers, strict=True):
        ids = torch.tensor(context + answer)
        by_hand = -cross_entropy(logits(ids)[4:8], ids[5:], reduction="sum")
        assert found == pytest.approx(by_hand.item(), abs=1e-4)
    assert wrote == families.tokenizer("llama").decode(written[6:], skip_special_tokens=True)


# ------------------------------------------------------------------------------------------------------------- IDP


def test_the_attention_that_chooses_by_hand():
    """One layer, from its own queries and keys: softmax of q k / sqrt(d) with rotary positions, in float64, by the model's own modules."""
    network = small_model(layers=1)
    prompts = [torch.randn(length, 32, generator=torch.Generator().manual_seed(length)) for length in (2, 5)]
    ids = WINDOWS[0]
    seen, attention = {}, network.model.layers[0].self_attn

    def see(_, given, more) -> None:
        seen.update(more, hidden=given[0] if given else more["hidden_states"])

    hook = attention.register_forward_pre_hook(see, with_kwargs=True)
    network.model(inputs_embeds=torch.cat([*prompts, network.get_input_embeddings()(ids)])[None])
    hook.remove()
    heads, width = network.config.num_attention_heads, attention.head_dim
    queries, keys = (
        projected(seen["hidden"]).view(1, 19, -1, width).transpose(1, 2) for projected in (attention.q_proj, attention.k_proj)
    )
    queries, keys = apply_rotary_pos_emb(queries, keys, *seen["position_embeddings"])
    keys = keys.repeat_interleave(heads // keys.shape[1], 1)
    scores = (queries @ keys.transpose(2, 3)).double()[0] / width**0.5
    weights = scores.masked_fill(torch.ones(19, 19).triu(1).bool(), -torch.inf).softmax(-1).mean(0)[7:]
    expected = [weights[:, :2].mean().item(), weights[:, 2:7].mean().item()]
    assert idp.attended(network, prompts, [ids, ids[:0], ids]).tolist() == [
        pytest.approx(expected, rel=1e-4),
        [0, 0],
        pytest.approx(expected, rel=1e-4),
    ]


def test_each_input_is_scored_behind_what_it_chose(monkeypatch):
    network, prompts = small_model(), [torch.zeros(2, 32), torch.ones(5, 32)]
    monkeypatch.setattr(
        idp, "attended", lambda _, given, rows: torch.tensor([[0.0, 1.0] if ids[0] % 2 else [1.0, 0.0] for ids in rows])
    )
    with idp.Pool(prompts, 8).on(network) as subject:
        found = perplexity_of(subject, WINDOWS).window_nll
    by_hand = [perplexity(network, window[None], prompts[int(window[0] % 2)]).nll for window in WINDOWS]
    assert list(found) == pytest.approx(by_hand, abs=1e-6) and len({int(window[0]) % 2 for window in WINDOWS}) == 2
    monkeypatch.undo()


# ------------------------------------------------------------------------------------------------------------ EoRA


@pytest.mark.parametrize("rank", [1, 4, 32])
def test_eora_is_the_nearest_of_its_rank_on_the_inputs(rank):
    """By another way: whitened by a Cholesky factor in place of eigenvectors, the optimum is the truncated SVD (Eckart and Young)."""
    generator = torch.Generator().manual_seed(0)
    change, inputs = (torch.randn(*size, generator=generator, dtype=torch.float64) for size in ((24, 32), (200, 32)))
    covariance = inputs.T @ inputs / len(inputs)
    factor = torch.linalg.cholesky(covariance)
    left, strengths, right = torch.linalg.svd(change @ factor, full_matrices=False)
    expected = (left[:, :rank] * strengths[:rank]) @ right[:rank] @ torch.linalg.inv(factor)
    wide, thin = eora.nearest(change, covariance, rank)
    assert wide.shape == (24, rank) and thin.shape == (rank, 32)
    assert torch.allclose(wide @ thin, expected, atol=1e-10)


def test_eora_repairs_nothing_that_no_input_reaches():
    change, inputs = torch.randn(8, 16, dtype=torch.float64), torch.zeros(50, 16, dtype=torch.float64)
    inputs[:, :5] = torch.randn(50, 5, dtype=torch.float64)
    wide, thin = eora.nearest(change, inputs.T @ inputs, 8)
    assert torch.allclose(inputs @ (wide @ thin).T, inputs @ change.T) and (thin[:, 5:].abs() < 1e-9).all()


@pytest.mark.parametrize("room", [1, 10**9], ids=["one matrix in a pass", "all in one"])
def test_covariances_are_those_of_the_inputs(monkeypatch, room):
    monkeypatch.setattr(eora, "AT_ONCE", room)
    network, seen = small_model(), {}
    windows = TEXT.calibration()
    found = dict(eora.covariances(network, windows))
    for name, module in loading.compressible(network).items():
        module.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0].flatten(0, -2).double()}))
    network(windows)
    assert found.keys() == seen.keys()
    for name, inputs in seen.items():
        assert torch.allclose(found[name].double(), inputs.T @ inputs / len(inputs), atol=1e-5), name


def test_eora_computes_on_the_cpu_where_a_gpu_has_no_float64(monkeypatch):
    """As a Mac's: here all tensors lie on one that were not brought to the CPU."""
    network, teacher = pruned(small_model()), Teacher(small_model())
    expected = eora.METHOD.learn(network, TEXT, eora.EoraSpec(4), teacher, 0).weights
    cpu, double = torch.Tensor.cpu, torch.Tensor.double

    def brought(tensor: torch.Tensor) -> torch.Tensor:
        found = cpu(tensor).clone()
        found.brought = True
        return found

    def only_there(tensor: torch.Tensor) -> torch.Tensor:
        if not hasattr(tensor, "brought"):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return double(tensor)

    for name, instead in (("is_mps", True), ("cpu", brought), ("double", only_there)):
        monkeypatch.setattr(torch.Tensor, name, instead)
    found = eora.METHOD.learn(network, TEXT, eora.EoraSpec(4), teacher, 0).weights
    assert found.keys() == expected.keys() and all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_eora_of_full_rank_gives_the_uncompressed_model_back_and_peft_opens_it(tmp_path):
    network, dense = pruned(small_model()), small_model()
    learned = eora.METHOD.learn(network, TEXT, eora.EoraSpec(64), Teacher(dense), 0)
    learned.save(tmp_path / "eora", ModelSpec("base"), network)
    with learned.on(network) as subject:
        ours = subject.network(WINDOWS).logits
    theirs = PeftModel.from_pretrained(pruned(small_model()), tmp_path / "eora").eval()(WINDOWS).logits
    assert torch.allclose(ours, theirs, atol=1e-5) and torch.allclose(ours, dense(WINDOWS).logits, atol=1e-2)


def test_settings_are_checked():
    settings = study.load()
    assert eora.METHOD.settings(settings, {"rank": 3}).rank == 3
    assert norms.METHOD.settings(settings, {"training": {"learning_rate": 0.5}}).training.learning_rate == 0.5
    wrong = ((norms.METHOD, {"rank": 3}), (temperature.METHOD, {"training": {"stops": 3}}), (lora.METHOD, {"training": 7}))
    for method, own in ((eora.METHOD, {"rank": 0}), (norms.METHOD, {"training": 7}), *wrong):
        with pytest.raises(ParameterError, match=f"methods.{method.name}"):
            method.settings(settings, own)
