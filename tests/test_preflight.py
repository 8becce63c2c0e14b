"""What a model is said to need, against what it takes; and what stops before any work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import families
import pytest
import yaml
from conftest import ROOT, random_windows

from ctp_lib import preflight, stepcost, study
from ctp_lib.study import ParameterError

MEASURE = """
import json, resource, sys
from dataclasses import replace
import psutil, torch
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM
from ctp_lib import preflight, stepcost, study

def built(width, layers):
    common = dict(vocab_size=8000, hidden_size=width, num_hidden_layers=layers, num_attention_heads=8, max_position_embeddings=512)
    if sys.argv[1] == "llama":
        network = LlamaForCausalLM(LlamaConfig(**common, intermediate_size=11 * width // 4))
    else:
        network = OPTForCausalLM(OPTConfig(**common, ffn_dim=4 * width, word_embed_proj_dim=width))
    return network.eval().requires_grad_(False)

def train(network, windows):
    candidate = stepcost.soft_prompt(network, settings.soft_prompt.prompt_tokens)
    optimizer = torch.optim.AdamW(candidate.trainable, lr=0.0)
    for _ in range(2):
        candidate.step(torch.randint(8000, (windows, settings.evaluation.window)), optimizer)

settings = study.load()
recipe = replace(settings.soft_prompt, training=replace(settings.soft_prompt.training, batch_windows=8))
with preflight.FakeTensorMode():
    estimate = preflight.needs(built(512, 6), replace(settings, soft_prompt=recipe)).train
train(built(16, 1), 1)  # what is imported and set up only once
before = psutil.Process().memory_info().rss
train(built(512, 6), 8)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"estimate": estimate, "measured": peak - before}))
"""
# every tensor in a mapping of its own, so that what is freed goes back at once: else the peak tells how malloc was used before
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536"}


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read as Linux tells it")
@pytest.mark.parametrize("family", ["llama", "opt"])
def test_a_training_step_takes_what_it_is_said_to_take(family):
    around = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | AT_ONCE
    done = subprocess.run([sys.executable, "-c", MEASURE, family], cwd=ROOT, env=around, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["measured"] == pytest.approx(found["estimate"], rel=0.3), found


@pytest.mark.parametrize("family", families.FAMILIES)
def test_nothing_but_shapes_is_needed_to_count_what_is_kept(family):
    network, windows = families.model(family), random_windows(3, 20)
    real = stepcost.kept_bytes(stepcost.soft_prompt(network, 5), windows)
    with preflight.FakeTensorMode():
        fake = preflight.AutoModelForCausalLM.from_config(families.FAMILIES[family]).eval().requires_grad_(False)
        counted = stepcost.kept_bytes(stepcost.soft_prompt(fake, 5), preflight.torch.zeros(3, 20, dtype=preflight.torch.int64))
    assert 0.98 * real <= counted <= 1.15 * real  # without data, grouped keys and values count as repeated


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the study's settings, small corpora, and a model to check."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["study"]["corpora"] = ["documentation"]
    raw["study"]["compression"] |= {"window": 24, "windows": 4}
    raw["study"]["evaluation"] = {"window": 24, "windows": {"validation": 4, "test": 4}}
    raw["study"]["soft_prompt"]["prompt_tokens"] = 5
    (tmp_path / "text").mkdir()
    for number in range(60):
        (tmp_path / "text" / f"{number}.txt").write_text("Return the sum of the elements of an array. " * (5 + number))
    raw["corpora"]["sources"]["documentation"] = {"files": {"train": "text/*.txt"}}
    raw["study"]["tasks"]["names"] = ["piqa"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    families.save("llama", tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "ctp_lib.corpora"], check=True)
    return tmp_path


TRAINING = {"steps": 4, "learning_rate": 0.1, "warmup_steps": 1, "validate_every": 2}


def settings_with(project, **changes):
    raw = yaml.safe_load((project / "params.yaml").read_text())
    for name, section in changes.items():
        raw["study"][name] |= section
    (project / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return study.load()


def test_what_fits_passes_and_what_does_not_is_said(project, monkeypatch):
    settings = settings_with(project, soft_prompt={"training": {**TRAINING, "batch_windows": 64}})
    needed = preflight.check(settings, "own")
    assert 0 < needed.weights < needed.train and needed.disk > needed.weights
    monkeypatch.setattr(preflight, "available", lambda: (needed.train + needed.weights) // 2)
    with pytest.raises(ParameterError, match="set soft_prompt.training.windows_at_once to 3[0-3]$"):
        preflight.check(settings, "own")
    monkeypatch.undo()
    monkeypatch.chdir(project)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ParameterError, match="on disk, 0 MB are free; make room"):
        preflight.check(settings, "own")


def test_too_little_text_and_too_little_context_are_said(project):
    with pytest.raises(ParameterError, match="need 205 positions, the model has 128"):
        preflight.check(settings_with(project, evaluation={"window": 200}), "own")
    with pytest.raises(ParameterError, match="no tokenizer|nobody/nothing is not on"):
        preflight.check(study.load(), "nobody/nothing")
