"""Models of every family, from a folder and from a hub: what goes before the tokens, what is compressed, and what can go wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import families
import pytest
import torch
from conftest import HUB, compress, random_windows
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from ctp_lib.claims import c12_nearest_tokens
from ctp_lib.evaluation.perplexity import perplexity
from ctp_lib.machine import preflight, step_cost
from ctp_lib.model import hub, likelihood, loading
from ctp_lib.model.likelihood import PromptCache
from ctp_lib.settings.compression import CompressionSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError

pytestmark = pytest.mark.medium
SOLVER = CompressionSpec(corpus="any", windows=4, window=24, dampening=0.01, block_size=16)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_prompt_of_real_tokens_is_those_tokens(family):
    network, windows, ids = families.model(family), random_windows(3, 20), random_windows(1, 7, seed=1)[0]
    prompt = network.get_input_embeddings()(ids)
    together = torch.cat([ids.expand(3, 7), windows], dim=1)
    logits = network(input_ids=together).logits[:, 7:-1].float()
    expected = cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="none").view(3, 19)
    torch.testing.assert_close(likelihood.token_nll(network, windows, prompt), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(c12_nearest_tokens.vocabulary(network)[ids], prompt)


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("length", [7, 20])  # shorter and longer than the sliding windows
def test_behind_a_prompt_computed_once_every_window_reads_the_same(family, length):
    network, windows = families.model(family), random_windows(5, 24)
    prompt = network.get_input_embeddings()(random_windows(1, length, seed=1)[0])
    plain = likelihood.token_nll(network, windows, prompt)
    once = PromptCache(network, prompt)
    for rows in ([0, 1, 2], [3, 4], [2]):  # nothing of what was read before stays
        torch.testing.assert_close(likelihood.token_nll(network, windows[rows], once), plain[rows], rtol=1e-5, atol=1e-5)
    assert perplexity(network, windows, prompt, batch_windows=2).nll == pytest.approx(plain.double().mean().item(), abs=1e-5)


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("level", ["3bit", "50%"])
def test_every_matrix_of_the_blocks_is_compressed_and_nothing_else(family, level, tmp_path):
    families.save(family, tmp_path)
    network = loading.load_model(ModelSpec(str(tmp_path)))
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    matrices = set(loading.compressible(network))
    compress(network, Level.parse(level), random_windows(4, 24), SOLVER)
    after = network.state_dict()
    changed = {name.removesuffix(".weight") for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed == matrices and set(before) == set(after)
    for name in matrices:
        rows = after[f"{name}.weight"]
        if level == "3bit":
            assert max(len(row.unique()) for row in rows) <= 8
        else:
            assert (rows == 0).float().mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_prompt_counts_against_the_context(family):
    network, tokenizer = families.model(family), families.tokenizer(family)
    if family == "bloom":  # ALiBi knows no end
        assert loading.context(network) > 10**6
        return
    loading.check_fit(network, tokenizer, families.CONTEXT)
    with pytest.raises(ParameterError, match=f"need {families.CONTEXT + 1} positions"):
        loading.check_fit(network, tokenizer, families.CONTEXT + 1)


# ------------------------------------------------------------------------------------------------------- the hub


@pytest.fixture
def repository(request):
    """A model on the hub, under a name of its own for each test."""
    name = f"somebody/{request.node.name.replace('[', '-').strip(']')[:60]}"
    folder = HUB.root / "models" / name
    families.save("opt", folder)
    yield name, folder
    shutil.rmtree(folder)


def test_a_model_comes_from_the_hub_once_and_then_from_the_cache(repository):
    name, folder = repository
    network = loading.load_model(ModelSpec(name))
    windows = random_windows(3, 20)
    assert perplexity(network, windows) == perplexity(loading.load_model(ModelSpec(str(folder))), windows)
    assert loading.load_tokenizer(ModelSpec(name)).get_vocab() == families.tokenizer("opt").get_vocab()
    HUB.asked.clear()
    loading.load_model(ModelSpec(name))
    assert not any("GET" in asked and "/resolve/" in asked for asked in HUB.asked)
    HUB.down = True
    try:
        assert perplexity(loading.load_model(ModelSpec(name)), windows) == perplexity(network, windows)
    finally:
        HUB.down = False
    assert len(hub.commit(loading.folder(ModelSpec(name)))) == 40 and hub.commit(folder) is None


def test_a_revision_is_taken_by_its_name(repository):
    name, folder = repository
    other = folder.with_name(folder.name + "@old")
    families.model("opt", seed=1).save_pretrained(other)
    families.tokenizer("opt").save_pretrained(other)
    windows = random_windows(3, 20)
    main, old = (perplexity(loading.load_model(ModelSpec(name, revision)), windows) for revision in (None, "old"))
    assert main != old
    with pytest.raises(ParameterError, match="has no revision 'new'"):
        loading.load_model(ModelSpec(name, "new"))


def test_a_torn_download_goes_on_and_an_altered_file_is_refused(repository):
    name, folder = repository
    HUB.torn.add(f"{name}/model.safetensors")
    network = loading.load_model(ModelSpec(name))
    assert perplexity(network, random_windows(2, 20)) == perplexity(
        loading.load_model(ModelSpec(str(folder))), random_windows(2, 20)
    )
    assert not HUB.torn


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_an_altered_file_is_refused_and_fetched_anew(repository, file):
    name, _ = repository
    HUB.altered.add(f"{name}/{file}")
    with pytest.raises(ParameterError, match="not what the hub says"):
        loading.load_model(ModelSpec(name))
    HUB.altered.clear()
    loading.load_model(ModelSpec(name))


def test_what_the_hub_refuses_is_said_in_a_sentence(repository):
    name, _ = repository
    HUB.gated.add(name)
    with pytest.raises(ParameterError, match="is gated: ask for access"):
        loading.load_model(ModelSpec(name))
    HUB.gated.clear()
    with pytest.raises(ParameterError, match="nobody/nothing is not on"):
        loading.load_model(ModelSpec("nobody/nothing"))
    HUB.down = True
    try:
        with pytest.raises(ParameterError, match="run again"):
            loading.load_model(ModelSpec(name))
    finally:
        HUB.down = False


def test_pickled_weights_and_code_are_refused(repository):
    name, folder = repository
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ParameterError, match="pickled ones are refused"):
        loading.load_model(ModelSpec(name))
    with pytest.raises(ParameterError, match="pickled ones are refused"):
        loading.load_model(ModelSpec(str(folder)))


def test_a_repository_without_a_tokenizer_is_refused(repository):
    name, folder = repository
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ParameterError, match="has no tokenizer; put"):
        loading.load_tokenizer(ModelSpec(name))


def test_torn_weights_in_a_folder_are_refused(tmp_path):
    families.save("opt", tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ParameterError, match="does not load"):
        loading.load_model(ModelSpec(str(tmp_path)))


@pytest.mark.parametrize("family", families.FAMILIES)
def test_recomputed_activations_give_the_same_gradient_and_are_not_kept(family):
    windows = random_windows(4, 20)

    def step(recompute: bool) -> tuple[torch.Tensor, int]:
        network = families.model(family)
        if recompute:
            loading.recompute_activations(network)
        candidate = step_cost.soft_prompt(network, 5)
        kept = step_cost.kept_bytes(candidate, windows)
        likelihood.token_nll(network, windows, candidate.prompt()).mean().backward()
        return candidate.prompt.prompt_embeddings.grad, kept

    (plain, kept_plain), (recomputed, kept_recomputed) = step(False), step(True)
    torch.testing.assert_close(recomputed, plain, rtol=1e-5, atol=1e-7)
    assert kept_recomputed < 0.8 * kept_plain


def test_weights_that_are_missing_or_called_otherwise_are_named(tmp_path):
    families.save("llama", tmp_path / "a")
    weights = load_file(tmp_path / "a" / "model.safetensors")
    save_file(
        {f"_orig_mod.{name}": weight for name, weight in weights.items()}, tmp_path / "a" / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(
        ParameterError, match=r"lacks \d+ weights, such as .*model\.embed_tokens|lacks \d+ weights, such as lm_head"
    ):
        loading.load_model(ModelSpec(str(tmp_path / "a")))
    save_file(weights | {"model.more": torch.zeros(2)}, tmp_path / "a" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ParameterError, match=r"has no place for 1 weights, such as model\.more; check its files"):
        loading.load_model(ModelSpec(str(tmp_path / "a")))


def test_settings_of_sampling_do_not_stop_a_saving(tmp_path):
    families.save("llama", tmp_path / "a")
    (tmp_path / "a" / "generation_config.json").write_text('{"temperature": 0.6, "top_p": 0.9, "eos_token_id": [0, 7]}')
    network = loading.load_model(ModelSpec(str(tmp_path / "a")))
    network.save_pretrained(tmp_path / "again")
    assert network.generation_config.eos_token_id == [0, 7]


def test_a_model_that_is_packed_already_is_no_model_to_compress(tmp_path):
    families.save("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq", "bits": 4}}))
    with pytest.raises(
        ParameterError, match="is packed by awq already; name the uncompressed one, and this under its `compressed`"
    ):
        preflight.on_shapes(ModelSpec(str(tmp_path)))


def test_only_a_folder_of_the_hubs_cache_has_a_commit(tmp_path):
    mine, cached = tmp_path / "snapshots" / "mine", Path(constants.HF_HUB_CACHE) / "models--a--b" / "snapshots" / "abc"
    assert hub.commit(mine) is None and hub.commit(cached) == "abc"
