"""The first notebook, and the prompts that ship for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import pytest
import small_study
import torch
from conftest import ROOT
from peft import PeftConfig
from safetensors.torch import load_file

from ctp_lib.model import loading
from ctp_lib.recovery.soft_prompt import Prompt
from ctp_lib.run import cell
from ctp_lib.settings import paths, study
from ctp_lib.settings.levels import Level
from ctp_lib.text import corpora

PROMPTS = sorted(path.parent for path in (ROOT / "models" / "prompts").rglob("adapter_config.json"))


@pytest.mark.medium
def test_the_first_notebook_runs_on_any_model_and_prompt(tmp_path, monkeypatch):
    raw = small_study.params()
    raw["profiles"]["smollm2_pilot"] = raw["profiles"]["embedded"]
    settings = study.load(small_study.write(tmp_path, raw) / "params.yaml", "smollm2_pilot")
    corpora.build(settings.corpora, paths.corpora(settings), root=tmp_path)
    network = loading.load_model(settings.model("own"))
    vectors = torch.randn(5, network.config.hidden_size)
    Prompt(vectors).save(paths.shipped_prompt(settings, "own", Level.parse("3bit")), settings.model("own"), network)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.chdir(tmp_path)
    assert cell.run(Path("notebooks/00_start_here.py"), {"model": "own", "level": "3bit"}) == 0
    executed = nbformat.read(tmp_path / "results" / "embedded" / "runs" / "00_start_here" / "own-w3.ipynb", as_version=4)
    printed = json.dumps([one.get("outputs") for one in executed.cells])
    assert f"5 vectors of {vectors.shape[1]} numbers, {4 * vectors.numel()} bytes" in printed and "3bit + prompt: " in printed


@pytest.mark.parametrize("folder", PROMPTS, ids=lambda folder: folder.name)
def test_what_ships_is_a_peft_adapter_with_a_card(folder):
    config, (vectors,) = PeftConfig.from_pretrained(folder), load_file(folder / "adapter_model.safetensors").values()
    assert config.peft_type == "PROMPT_TUNING" and vectors.shape == (config.num_virtual_tokens, config.token_dim)
    assert vectors.isfinite().all() and "perplexity" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_prompt_of_the_first_notebook_ships():
    settings = study.load(ROOT / "params.yaml", "smollm2_pilot")
    assert paths.shipped_prompt(settings, "smollm2", Level.parse("3bit")) in PROMPTS
