"""Folders for a hub: packed weights against a reader written from the format, cards against the results, uploads by a round trip."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import families
import pytest
import small_study
import torch
from conftest import HUB, random_windows
from huggingface_hub import ModelCard, snapshot_download
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ctp_lib.compression import saved
from ctp_lib.evaluation.perplexity import perplexity
from ctp_lib.model import likelihood, loading
from ctp_lib.publishing import adapter, baked, gptq_format, packed
from ctp_lib.publishing.__main__ import push
from ctp_lib.recovery import scores
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError

pytestmark = pytest.mark.medium
WINDOWS = random_windows(4, 24)


def read_packed(tensors: dict[str, torch.Tensor], name: str, bits: int) -> torch.Tensor:
    """The dense matrix of a packed one, bit by bit, in Python's integers."""

    def codes(words: list[int], number: int) -> list[int]:
        stream = sum((word % 2**32) << (32 * place) for place, word in enumerate(words))
        return [(stream >> (bits * place)) % 2**bits for place in range(number)]

    qweight, scales = tensors[f"{name}.qweight"], tensors[f"{name}.scales"].double()[0]
    columns, rows = qweight.shape[0] * 32 // bits, qweight.shape[1]
    zeros = codes(tensors[f"{name}.qzeros"][0].tolist(), rows)
    return torch.stack(
        [scales[row] * (torch.tensor(codes(qweight[:, row].tolist(), columns)).double() - zeros[row]) for row in range(rows)]
    )


@pytest.fixture
def project(tmp_path):
    """A study of a minute, to compress and publish."""
    return small_study.make(tmp_path)


def prepare(settings, level: Level) -> torch.nn.Module:
    """Compress to ``level``, learn prompts, and score both; the compressed model."""
    for method in ("none", "soft_prompt"):
        scores.obtain(settings, "own", level, method)
    return saved.load(settings, "own", level)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_packed_weights_are_the_dense_ones(bits):
    generator = torch.Generator().manual_seed(bits)
    dense = torch.randn(64, 96, generator=generator) * torch.rand(64, 1, generator=generator)
    dense[0] = dense[0].abs()  # a row that needs nothing below zero: its zero point is 0
    low, high = dense.amin(1, keepdim=True).clamp(max=0), dense.amax(1, keepdim=True).clamp(min=0)
    scale = (high - low) / (2**bits - 1)
    on_grid = scale * (
        torch.clamp(torch.round(dense / scale) + torch.round(-low / scale), 0, 2**bits - 1) - torch.round(-low / scale)
    )
    packed = gptq_format.pack("m", on_grid, dense, bits)
    assert packed["m.qweight"].shape == (96 * bits // 32, 64) and packed["m.qzeros"].shape == (1, 64 * bits // 32)
    torch.testing.assert_close(read_packed(packed, "m", bits), on_grid.double(), rtol=1e-3, atol=1e-6)
    if bits < 8:  # bf16 has no room for 256 steps
        rounded = read_packed(gptq_format.pack("m", on_grid.bfloat16(), dense, bits), "m", bits)
        torch.testing.assert_close(rounded, on_grid.double(), rtol=5e-3, atol=1e-6)
    with pytest.raises(ParameterError, match="does not lie on the"):
        gptq_format.pack("m", on_grid + 0.3 * scale * (on_grid > 0), dense, bits)


@pytest.mark.parametrize("level", ["4bit", "2bit", "50%+4bit"])
def test_a_published_model_holds_what_was_scored(project, level):
    network = prepare(project, Level.parse(level))
    folder = packed.compressed_model(project, "own", Level.parse(level))
    tensors, bits = load_file(folder / "model.safetensors"), Level.parse(level).bits
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert config["bits"] == bits and config["quant_method"] == "gptq" and not config["sym"] and config["group_size"] == -1
    again = families.model("llama", seed=5)
    state = {
        name: weight.float() for name, weight in tensors.items() if not name.endswith(("qweight", "qzeros", "scales", "g_idx"))
    }
    state |= {f"{name}.weight": read_packed(tensors, name, bits).float() for name in loading.compressible(network)}
    again.load_state_dict(state)
    assert perplexity(again, WINDOWS).nll == pytest.approx(perplexity(network, WINDOWS).nll, abs=1e-3)
    dense = sum(4 * module.weight.numel() for module in loading.compressible(network).values())
    held = sum(tensor.nbytes for name, tensor in tensors.items() if name.endswith("qweight"))
    assert held == dense * bits // 32


def test_gptqmodel_opens_it_where_it_is_installed(project):
    pytest.importorskip("gptqmodel")
    network = prepare(project, Level.parse("4bit"))
    folder = packed.compressed_model(project, "own", Level.parse("4bit"))
    script = (
        "import sys, torch; from gptqmodel import BACKEND, GPTQModel; from ctp_lib.evaluation.perplexity import perplexity\n"
        "network = GPTQModel.load(sys.argv[1], backend=BACKEND.TORCH, device='cpu', dtype=torch.float16).model.eval()\n"
        "print(perplexity(network, torch.load(sys.argv[2])).nll)"
    )
    torch.save(WINDOWS, project.root / "windows.pt")
    done = subprocess.run(
        [sys.executable, "-c", script, folder, project.root / "windows.pt"], capture_output=True, text=True, check=True
    )
    assert float(done.stdout.split()[-1]) == pytest.approx(perplexity(network, WINDOWS).nll, abs=5e-3)


def test_a_pruned_model_is_published_dense(project):
    network = prepare(project, Level.parse("2:4"))
    folder = packed.compressed_model(project, "own", Level.parse("2:4"))
    assert perplexity(loading.load_model(ModelSpec(str(folder))), WINDOWS) == perplexity(network, WINDOWS)
    assert not (folder / saved.MANIFEST).exists()


def test_the_card_says_what_was_measured(project):
    network = prepare(project, Level.parse("2bit"))
    folder = adapter.prompt(project, "own", Level.parse("2bit"), 0)
    card = ModelCard.load(folder / "README.md")
    rows = [line.split("|")[1:-1] for line in card.text.splitlines() if line.startswith("| broad")]
    found = [scores.obtain(project, "own", Level.parse(level), method)["perplexity"][0] for level, method in (
        ("full", "none"), ("2bit", "none"), ("2bit", "soft_prompt"),
    )]  # fmt: skip
    assert [float(cell) for cell in rows[0][1:]] == [round(row["ppl"], 2) for row in found]
    assert "5 vectors, started from random entries" in card.text
    assert card.data.library_name == "peft" and "prompt-tuning" in card.data.tags and card.data.base_model is None
    opened = PeftModel.from_pretrained(network, folder)
    assert opened(input_ids=WINDOWS).logits.isfinite().all()


def test_a_model_in_groups_is_published_dense(project):
    network = prepare(project, Level.parse("3bit/g8"))
    folder = packed.compressed_model(project, "own", Level.parse("3bit/g8"))
    assert perplexity(loading.load_model(ModelSpec(str(folder))), WINDOWS) == perplexity(network, WINDOWS)


def test_what_cannot_be_published_is_said(project):
    prepare(project, Level.parse("3bit"))
    with pytest.raises(ParameterError, match="at 3 bits; the GPTQ format takes"):
        packed.compressed_model(project, "own", Level.parse("3bit"))
    assert not list((project.root / "published").glob("own-w3"))
    with pytest.raises(ParameterError, match="run notebooks/02_compression"):
        packed.compressed_model(project, "own", Level.parse("4bit"))
    with pytest.raises(ParameterError, match="no prompt of own at 3bit with seed 7"):
        adapter.prompt(project, "own", Level.parse("3bit"), 7)


def test_a_folder_goes_to_the_hub_and_comes_back(project):
    prepare(project, Level.parse("2bit"))
    folder = adapter.prompt(project, "own", Level.parse("2bit"), 0)
    push(folder, "somebody/a-prompt")
    back = snapshot_download("somebody/a-prompt")
    for path in folder.iterdir():
        assert (folder / path.name).read_bytes() == Path(back, path.name).read_bytes()
    HUB.gated.add("somebody/closed")
    with pytest.raises(ParameterError, match="was not uploaded: .*log in with"):
        push(folder, "somebody/closed")


@pytest.mark.parametrize("family", [name for name in families.FAMILIES])
def test_a_baked_prompt_gives_the_logits_of_the_stitched_one(family, tokenizer, tmp_path):
    network, plain = families.model(family), families.model(family)
    width = plain.get_input_embeddings().weight.shape[1]
    vectors = torch.randn(3, width, generator=torch.Generator().manual_seed(1))
    own = copy.deepcopy(tokenizer)
    own.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    baked.bake(network, own, vectors)
    network.save_pretrained(tmp_path)
    own.save_pretrained(tmp_path)
    again, reads = AutoModelForCausalLM.from_pretrained(tmp_path).eval(), AutoTokenizer.from_pretrained(tmp_path)
    text = "Return the sum of the axis."
    ids, words = reads(text, return_tensors="pt"), tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert reads.convert_ids_to_tokens(ids["input_ids"][0])[:3] == ["<prompt_0>", "<prompt_1>", "<prompt_2>"]
    chat = reads.apply_chat_template([{"role": "user", "content": text}], return_tensors="pt", return_dict=True)
    assert torch.equal(chat["input_ids"], ids["input_ids"]) and ids["input_ids"].shape[1] == 3 + words.shape[1]
    with torch.inference_mode():
        expected = plain(inputs_embeds=likelihood.stitched(plain, words, vectors)).logits
        found = again(**ids).logits
    torch.testing.assert_close(found[..., :300], expected, rtol=1e-4, atol=1e-4)
    made = again.generate(**ids, max_new_tokens=8, do_sample=False, pad_token_id=0)[0, ids["input_ids"].shape[1] :]
    with torch.inference_mode():
        wanted = plain.generate(
            inputs_embeds=likelihood.stitched(plain, words, vectors), max_new_tokens=8, do_sample=False, pad_token_id=0
        )[0]
    assert torch.equal(made, wanted) and made.max() < 300


def test_a_baked_folder_is_written_with_its_card(project):
    prepare(project, LEVEL := Level.parse("50%"))
    folder = baked.model(project, "own", LEVEL, 0)
    text = (folder / "README.md").read_text()
    assert "with a learned prompt inside" in text and "| broad |" in text and "puts the prompt's 5 tokens before every text" in text
    assert AutoModelForCausalLM.from_pretrained(folder).config.tie_word_embeddings is False
