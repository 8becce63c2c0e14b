"""What a model is said to need, against what it takes; and what stops before any work."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import families
import pytest
import small_study
import torch
import yaml
from conftest import ROOT, random_windows
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from benchmarks import measure
from ctp_lib.machine import memory, preflight, step_cost
from ctp_lib.model import loading
from ctp_lib.model.divergence import Teacher
from ctp_lib.settings import paths, study
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError

pytestmark = pytest.mark.medium


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read as Linux tells it")
@pytest.mark.parametrize("family", ["llama", "opt", "gemma2"])
def test_work_takes_what_it_is_said_to_take(family):
    around = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    around |= measure.ALONE | {"PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("memory_script.py")
    done = subprocess.run([sys.executable, script, family], cwd=ROOT, env=around, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["measured"] == pytest.approx(found["estimate"], rel=0.3), found


@pytest.mark.parametrize("family", ["llama", "bloom", "gemma2", "gemma3"])  # layers of one kind, and of two
def test_two_shallow_networks_tell_what_the_whole_takes(family, monkeypatch):
    asked = study.load(ROOT / "params.yaml")
    asked = replace(
        asked, evaluation=replace(asked.evaluation, window=24), compression=replace(asked.compression, windows=4, window=24)
    )
    config = copy.deepcopy(families.FAMILIES[family])
    config.num_hidden_layers = 12
    if getattr(config, "layer_types", None):
        config.layer_types = (config.layer_types * 12)[:12]
    with memory.shapes_alone():
        network = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    found = preflight.needs(network, asked)
    monkeypatch.setattr(memory, "whole", lambda network, count: count(network))
    whole = preflight.needs(network, asked)
    assert found.memory == pytest.approx(whole.memory, rel=0.02)


def test_peak_bytes_of_three_matrices_by_hand():
    """a and b are there together; then a goes, and c comes, which is as large as both; a view takes nothing."""

    def work():
        a, b = torch.zeros(100, 10), torch.zeros(50, 10)
        assert a.T.shape == (10, 100)
        del a
        c = torch.zeros(150, 10)
        return b, c

    assert memory.peak_bytes(work, own=()) == 4 * (500 + 1500)
    weight = torch.zeros(7, 7)
    with memory.shapes_alone():
        fake = torch.zeros(7, 7)
    assert memory.peak_bytes(lambda: fake.view(49) + 0, own=[fake]) == 4 * 49
    assert memory.peak_bytes(lambda: weight @ weight, own=[weight]) >= 4 * 49


@pytest.mark.parametrize("family", families.FAMILIES)
def test_nothing_but_shapes_is_needed(family, tmp_path):
    """The count on shapes alone is that of real tensors."""
    families.save(family, tmp_path)
    network = loading.load_model(ModelSpec(str(tmp_path)))
    teacher = loading.load_model(ModelSpec(str(tmp_path)))
    candidate, windows = replace(step_cost.soft_prompt(network, 5), teacher=Teacher(teacher)), random_windows(3, 20)
    optimizer = torch.optim.AdamW(candidate.trainable, lr=0.0)
    candidate.step(windows, optimizer)
    with memory.PeakBytes([*network.parameters(), *teacher.parameters()]) as real:
        candidate.step(windows, optimizer)
    settings = study.load()
    settings = replace(
        settings,
        soft_prompt=replace(
            settings.soft_prompt,
            prompt_tokens=5,
            loss="distillation",
            training=replace(settings.soft_prompt.training, batch_windows=3),
        ),
        evaluation=replace(settings.evaluation, window=20),
    )
    needed = preflight.needs(preflight.on_shapes(ModelSpec(str(tmp_path))), settings, ["soft_prompt"])
    assert needed.weights == sum(weight.nbytes for weight in network.parameters())
    assert needed.memory["soft_prompt"] - 2 * needed.weights == pytest.approx(real.peak, rel=0.15)  # grouped keys count as repeated


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the study's settings, small corpora, and a model to check."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["profiles"]["embedded"]["corpora"] = ["documentation"]
    raw["profiles"]["embedded"]["compression"] |= {"window": 24, "windows": 4}
    raw["profiles"]["embedded"]["evaluation"] = {"window": 24, "windows": {"validation": 4, "test": 4}}
    raw["profiles"]["embedded"]["soft_prompt"]["prompt_tokens"] = 5
    (tmp_path / "text").mkdir()
    for number in range(60):
        (tmp_path / "text" / f"{number}.txt").write_text("Return the sum of the elements of an array. " * (5 + number))
    raw["corpora"]["sources"]["documentation"] = {"files": {"train": "text/*.txt"}}
    raw["profiles"]["embedded"]["tasks"]["names"] = ["piqa"]
    raw["profiles"]["embedded"]["knowledge"]["relations"] = ["continent"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    families.save("llama", tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "ctp_lib.text.corpora"], check=True)
    return tmp_path


TRAINING = {"steps": 4, "learning_rate": 0.1, "warmup_steps": 1, "validate_every": 2}


def settings_with(project, **changes):
    raw = yaml.safe_load((project / "params.yaml").read_text())
    for name, section in changes.items():
        raw["profiles"]["embedded"][name] |= section
    (project / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return study.load()


def advised(project, ask: str, what: list[str]) -> int:
    """How many windows at once a refusal advises: so many are let through, half as many again are not. (It counts from one window and
    two, as if each of many brought logits of its own; no more than a chunk of them is held.)
    """
    with pytest.raises(ParameterError, match=f"^{ask} takes .* set soft_prompt.training.windows_at_once to [0-9]+$") as refused:
        preflight.check(study.load(), "own", what)
    number = int(str(refused.value).split()[-1])
    training = study.load().soft_prompt.training
    changed = {**TRAINING, "batch_windows": training.batch_windows}
    preflight.check(settings_with(project, soft_prompt={"training": {**changed, "windows_at_once": number}}), "own", what)
    more = settings_with(project, soft_prompt={"training": {**changed, "windows_at_once": number * 3 // 2}})
    with pytest.raises(ParameterError, match=f"^{ask} takes"):
        preflight.check(more, "own", what)
    return number


def test_what_fits_passes_and_what_does_not_is_said(project, monkeypatch):
    settings = settings_with(project, soft_prompt={"training": {**TRAINING, "batch_windows": 64}})
    needed = preflight.check(settings, "own")
    assert 0 < needed.weights < min(needed.memory.values()) and needed.disk > needed.weights
    train = needed.memory["soft_prompt"]
    monkeypatch.setattr(preflight, "available", lambda _: (train + 2 * needed.weights) // 2)
    assert 17 <= advised(project, "soft_prompt", ["soft_prompt"]) <= 21
    monkeypatch.undo()
    monkeypatch.chdir(project)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ParameterError, match="on disk, 0 MB are free; make room"):
        preflight.check(settings, "own")


def test_a_training_that_cannot_be_compiled_is_refused(project, monkeypatch):
    settings = settings_with(project, soft_prompt={"training": {**TRAINING, "compile": True}})
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ParameterError, match="needs the C.. compiler no-such-compiler; install it, or set compile to false"):
        preflight.check(settings, "own")


def test_what_is_compressed_already_takes_no_more_room(project, monkeypatch):
    settings = settings_with(project)
    needed = preflight.check(settings, "own")
    compressed = [level for level in settings.compressed if level.family != "full"]
    for level in compressed[:-1]:
        paths.compressed(settings, "own", level).mkdir(parents=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, needed.disk // len(compressed)))
    preflight.check(settings, "own")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, needed.disk // len(compressed) - 1))
    with pytest.raises(ParameterError, match="own at 1 levels takes"):
        preflight.check(settings, "own")
    preflight.check(settings, "own", ["evaluate"])


def test_the_advice_for_lora_is_that_of_lora(project, monkeypatch):
    settings = settings_with(
        project,
        soft_prompt={"training": {**TRAINING, "batch_windows": 64}},
        knowledge={"methods": []},
        comparison={
            "repairs": small_study.REPAIRS
            | {"lora": {"rates": [0.01], "sizes": {"8@all": {"rank": 8, "targets": small_study.MATRICES}}}}
        },
    )
    needed = preflight.check(settings, "own").memory
    between = (needed["soft_prompt"] + needed["lora"]) // 2
    monkeypatch.setattr(preflight, "available", lambda _: between)
    preflight.check(settings, "own", ["soft_prompt"])
    assert 35 <= advised(project, "lora", ["lora"]) <= 39


def test_a_model_with_nothing_to_compress_or_of_an_unknown_kind_is_refused(project):
    GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)).save_pretrained(
        project / "gpt2"
    )
    families.tokenizer("llama").save_pretrained(project / "gpt2")
    with pytest.raises(ParameterError, match="'gpt2' has no linear layers in numbered blocks"):
        preflight.check(study.load(), "gpt2")
    MixtralForCausalLM(MixtralConfig(**families.COMMON, num_key_value_heads=2, num_local_experts=4)).save_pretrained(
        project / "experts"
    )
    families.tokenizer("llama").save_pretrained(project / "experts")
    lies = (
        "'experts': 8.% of the weights of its layers lie outside of linear layers, such as model.layers.0.mlp.experts.gate_up_proj"
    )
    with pytest.raises(ParameterError, match=lies):
        preflight.check(study.load(), "experts")
    config = json.loads((project / "gpt2" / "config.json").read_text())
    (project / "gpt2" / "config.json").write_text(json.dumps(config | {"model_type": "gpt99"}))
    with pytest.raises(ParameterError, match="'gpt2' (does not load|has no tokenizer that loads):"):
        preflight.check(study.load(), "gpt2")


def test_too_little_text_and_too_little_context_are_said(project):
    with pytest.raises(ParameterError, match="fewer than two|fewer than one window"):
        preflight.check(settings_with(project, evaluation={"window": 120}), "own", ["evaluate"])
    with pytest.raises(ParameterError, match="need 205 positions, the model has 192"):
        preflight.check(settings_with(project, evaluation={"window": 200}), "own", ["evaluate"])
    with pytest.raises(ParameterError, match="no tokenizer|nobody/nothing is not on"):
        preflight.check(study.load(), "nobody/nothing")


def test_the_command_prints_what_it_takes_or_what_is_missing(project):
    command = [sys.executable, "-m", "ctp_lib.machine.preflight", "own"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "hard_prompt.items asks for 80; ask for fewer" in done.stderr
    settings_with(project, hard_prompt={"items": 1, "context": 8, "continuation": 8})
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert all(f"\n  {what} " in said for what in ("weights", *preflight.WORKS, "disk", "free"))
    at_most = int(re.search(r"at once +(\d+) windows at most in a step of a soft prompt; the settings ask for 1\n", said)[1])
    assert at_most > 1000
