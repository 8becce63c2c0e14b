"""What comes from strangers runs nothing, writes nothing outside its place, and does not fill the memory."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from pathlib import Path

import families
import gguf_file
import pytest
import torch
from conftest import HUB, ROOT
from huggingface_hub import constants

from ctp_lib.model import gguf, loading
from ctp_lib.recovery import lora, soft_prompt
from ctp_lib.settings import study
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError


@pytest.fixture
def model(tmp_path):
    families.save("llama", tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def trap(model, monkeypatch):
    """Code beside the model that leaves a mark when it runs."""
    mark = model.parent / "it ran"
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Evil: pass\n"
    for folder in (model, model.parent):
        (folder / "evil.py").write_text(code)
    monkeypatch.syspath_prepend(str(model.parent))
    yield mark
    assert not mark.exists() and "evil" not in sys.modules


def changed(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_code_that_comes_with_a_model_or_its_tokenizer_does_not_run(model, trap):
    classes = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    changed(model / "config.json", auto_map=classes)
    changed(model / "tokenizer_config.json", auto_map=classes)
    loading.load_model(ModelSpec(str(model)))  # as the Llama that it is
    loading.load_tokenizer(ModelSpec(str(model)))
    changed(model / "config.json", model_type="evil", architectures=["Evil"])
    with pytest.raises(ParameterError, match="does not load"):
        loading.load_model(ModelSpec(str(model)))


def test_shards_lie_in_the_models_folder(model):
    shutil.move(model / "model.safetensors", model.parent / "other.safetensors")
    torch.save({}, model / "pytorch_model.bin")
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"model.norm.weight": "../other.safetensors"}}))
    (model / "decoy.safetensors").touch()
    with pytest.raises(ParameterError, match=r"names \.\./other.safetensors, outside of its folder"):
        loading.load_model(ModelSpec(str(model)))


@pytest.mark.parametrize("template", ["{{ messages.__class__.__mro__ }}", "{{ ''.__class__.__base__.__subclasses__() }}", "{% for"])
def test_a_chat_template_that_reaches_for_more_is_refused(model, template):
    tokenizer = loading.load_tokenizer(ModelSpec(str(model)))
    tokenizer.chat_template = template
    with pytest.raises(ParameterError, match="the model's chat template fails"):
        loading.as_chat(tokenizer, "hello")


@pytest.mark.parametrize("kind", ["prompt", "lora"])
def test_an_adapter_that_names_foreign_code_runs_none(model, trap, tmp_path, kind):
    network = loading.load_model(ModelSpec(str(model)))
    if kind == "prompt":
        method, made = soft_prompt.METHOD, soft_prompt.Prompt(torch.zeros(3, network.config.hidden_size))
    else:
        from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

        method, config = lora.METHOD, LoraConfig(r=1, target_modules=["q_proj"], task_type="CAUSAL_LM")
        adapted = get_peft_model(network, config)
        made = lora.Adapter(config, get_peft_model_state_dict(adapted))
        adapted.unload()
    made.save(tmp_path / "adapter", ModelSpec(str(model)), network)
    changed(tmp_path / "adapter" / "adapter_config.json", auto_mapping={"parent_library": "evil", "base_model_class": "Evil"})
    with method.load(tmp_path / "adapter", network).on(network):
        pass
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    torch.save({"prompt_embeddings": torch.zeros(3, network.config.hidden_size)}, tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(ParameterError, match="is not a readable"):
        method.load(tmp_path / "adapter", network)


@pytest.mark.parametrize("bomb", ["<<: [{}]", "x: [{}]"])
def test_yaml_that_expands_without_end_is_refused_at_once(tmp_path, bomb):
    lines = ["a0: &a0 {x: 1, y: 2}"]
    for number in range(1, 12):
        lines.append(f"a{number}: &a{number} {{{bomb.format(', '.join([f'*a{number - 1}'] * 9))}}}")
    (tmp_path / "params.yaml").write_text("\n".join(lines))
    before = time.process_time()
    with pytest.raises(ParameterError, match="would be more than 100,000 values"):
        study.load(tmp_path / "params.yaml")
    assert time.process_time() - before < 10  # expanded, it would be hours


@pytest.mark.parametrize("text", ["study: &a [*a]", "[" * 100_000, "study: " + "[" * 5000 + "]" * 5000])
def test_yaml_without_an_end_is_refused(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParameterError):
        study.load(tmp_path / "params.yaml")


@pytest.fixture
def repository(request):
    name = f"stranger/{request.node.name[:60]}"
    folder = HUB.root / "models" / name
    families.save("opt", folder)
    yield name
    shutil.rmtree(folder)


def test_a_hub_that_sends_more_than_it_announced_is_refused(repository):
    HUB.longer |= {f"{repository}/{file}" for file in ("model.safetensors", "config.json")}
    try:
        with pytest.raises(ParameterError, match="run again"):
            loading.load_model(ModelSpec(repository))
    finally:
        HUB.longer.clear()


def test_a_hub_that_names_a_file_outside_writes_none(repository):
    cache = Path(constants.HF_HUB_CACHE)
    before = {path for path in cache.parent.rglob("*") if f"models--{repository.replace('/', '--')}" not in str(path)}
    HUB.outside.add(repository)
    try:
        with pytest.raises(ParameterError, match=r"outside"):
            loading.load_model(ModelSpec(repository))
    finally:
        HUB.outside.clear()
    assert {path for path in cache.parent.rglob("*") if f"models--{repository.replace('/', '--')}" not in str(path)} == before


def test_a_gguf_file_with_a_damaged_head_is_read_or_refused(tmp_path):
    """Some of its bytes say how many fields and how long they are."""
    whole, draw, refused = gguf_file.write(ROOT / "models/reference", tmp_path / "own.gguf").read_bytes(), random.Random(0), 0
    for _ in range(20):
        place = draw.randrange(600)
        (tmp_path / "own.gguf").write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        try:
            gguf._fields(tmp_path / "own.gguf")
        except ParameterError:
            refused += 1
    assert refused > 5
