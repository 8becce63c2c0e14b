"""Folders for a hub: packed weights against a reader written from the format, cards against the results, uploads by a round trip."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace

import families
import pytest
import torch
from conftest import HUB, ROOT, random_windows
from huggingface_hub import ModelCard, snapshot_download
from peft import PeftModel
from safetensors.torch import load_file

from ctp_lib import experiments, models, places, prompts, publishing, results, study
from ctp_lib.compression import files, gptq_format, recipes
from ctp_lib.evaluation.perplexity import perplexity
from ctp_lib.study import Level, ModelSpec, ParameterError
from ctp_lib.texts import ScoredText

WINDOWS = random_windows(4, 24)
SCORED = {"documentation": ScoredText(WINDOWS, 3.0, "text")}


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
def project(tmp_path, monkeypatch):
    """A folder with the study's settings and a model to compress and publish."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    families.save("llama", tmp_path / "own")
    settings = study.load(tmp_path / "params.yaml")
    return replace(settings, compression=replace(settings.compression, windows=4, window=24, block_size=16))


def prepare(settings, level: Level) -> torch.nn.Module:
    """Compress to ``level``, put a prompt before it, and score both as the notebooks do; the compressed model."""
    spec = ModelSpec(str(settings.root / "own"))
    network, tokenizer = models.load_model(spec), families.tokenizer("llama")
    recipes.compress(network, level, random_windows(4, 24, seed=3), settings.compression)
    files.save(settings, "own", level, network, tokenizer)
    network = files.load(settings, "own", level)
    rows = experiments.score(network, SCORED, method="none", seed=0)
    experiments.write(settings, "compression", "own", level, rows=rows, costs=[])
    prompt = prompts.SoftPrompt.from_vocabulary(network, 5, "sampled", 0)
    prompts.save(prompt, places.prompt_folder(settings, "own", level, 0), spec, network)
    rows = experiments.score(network, SCORED, method="soft_prompt", prompt=prompt().detach(), seed=0)
    recipe = asdict(replace(settings.soft_prompt, prompt_tokens=5))
    experiments.write(settings, "soft_prompt", "own", level, rows=rows, costs=[], recipe=recipe)
    return network


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
    folder = publishing.compressed_model(project, "own", Level.parse(level))
    tensors, bits = load_file(folder / "model.safetensors"), Level.parse(level).bits
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert config["bits"] == bits and config["quant_method"] == "gptq" and not config["sym"] and config["group_size"] == -1
    again = families.model("llama", seed=5)
    state = {
        name: weight.float() for name, weight in tensors.items() if not name.endswith(("qweight", "qzeros", "scales", "g_idx"))
    }
    state |= {f"{name}.weight": read_packed(tensors, name, bits).float() for name in models.compressible(network)}
    again.load_state_dict(state)
    assert perplexity(again, WINDOWS).nll == pytest.approx(perplexity(network, WINDOWS).nll, abs=1e-3)
    dense = sum(4 * module.weight.numel() for module in models.compressible(network).values())
    packed = sum(tensor.nbytes for name, tensor in tensors.items() if name.endswith("qweight"))
    assert packed == dense * bits // 32


def test_gptqmodel_opens_it_where_it_is_installed(project):
    pytest.importorskip("gptqmodel")
    network = prepare(project, Level.parse("4bit"))
    folder = publishing.compressed_model(project, "own", Level.parse("4bit"))
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
    folder = publishing.compressed_model(project, "own", Level.parse("2:4"))
    assert perplexity(models.load_model(ModelSpec(str(folder))), WINDOWS) == perplexity(network, WINDOWS)
    assert not (folder / files.MANIFEST).exists()


def test_the_card_says_what_was_measured(project):
    network = prepare(project, Level.parse("2bit"))
    prepare(project, Level())
    folder = publishing.prompt(project, "own", Level.parse("2bit"), 0)
    card = ModelCard.load(folder / "README.md")
    rows = [line.split("|")[1:-1] for line in card.text.splitlines() if line.startswith("| documentation")]
    cells = [results.read_cell(places.cell_path(project, *cell)) for cell in (
        ("compression", "own", Level()), ("compression", "own", Level.parse("2bit")), ("soft_prompt", "own", Level.parse("2bit")),
    )]  # fmt: skip
    assert [float(cell) for cell in rows[0][1:]] == [round(cell["perplexity"][0]["ppl"], 2) for cell in cells]
    assert "5 vectors, started from random entries" in card.text
    assert card.data.library_name == "peft" and "prompt-tuning" in card.data.tags and card.data.base_model is None
    opened = PeftModel.from_pretrained(network, folder)
    assert opened(input_ids=WINDOWS).logits.isfinite().all()


def test_what_cannot_be_published_is_said(project):
    prepare(project, Level.parse("3bit"))
    with pytest.raises(ParameterError, match="at 3 bits; the GPTQ format takes"):
        publishing.compressed_model(project, "own", Level.parse("3bit"))
    assert not list((project.root / "published").glob("own-3bit"))
    with pytest.raises(ParameterError, match="run notebooks/02_compression"):
        publishing.compressed_model(project, "own", Level.parse("4bit"))
    with pytest.raises(ParameterError, match="no prompt of own at 3bit with seed 7"):
        publishing.prompt(project, "own", Level.parse("3bit"), 7)


def test_a_folder_goes_to_the_hub_and_comes_back(project):
    prepare(project, Level.parse("2bit"))
    folder = publishing.prompt(project, "own", Level.parse("2bit"), 0)
    publishing.push(folder, "somebody/a-prompt")
    back = snapshot_download("somebody/a-prompt")
    for path in folder.iterdir():
        assert (folder / path.name).read_bytes() == open(f"{back}/{path.name}", "rb").read()
    HUB.gated.add("somebody/closed")
    with pytest.raises(ParameterError, match="was not uploaded: .*log in with"):
        publishing.push(folder, "somebody/closed")
