"""Folders for a hub: what transformers alone makes of them, cards against the results, uploads by a round trip."""

from __future__ import annotations

import copy
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
from ctp_lib.publishing import folders
from ctp_lib.publishing.__main__ import push
from ctp_lib.recovery import scores
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError

pytestmark = pytest.mark.medium
WINDOWS = random_windows(4, 24)


@pytest.fixture
def project(tmp_path):
    """A study of a minute, to compress and publish."""
    return small_study.make(tmp_path)


def prepare(settings, level: Level) -> torch.nn.Module:
    """Compress to ``level``, learn prompts, and score both; the compressed model."""
    for method in ("none", "soft_prompt"):
        scores.obtain(settings, "own", level, method)
    return saved.load(settings, "own", level)


@pytest.mark.parametrize("level", ["4bit", "2bit", "3bit/g8", "50%+4bit"])
def test_a_published_model_holds_what_was_scored(project, level):
    """transformers alone opens it, bits per weight are those of the level, and what is no grid point of the model is refused."""
    asked = Level.parse(level)
    network = prepare(project, asked)
    folder = folders.compressed_model(project, "own", asked)
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert perplexity(again, WINDOWS).nll == pytest.approx(perplexity(network, WINDOWS).nll, abs=1e-3)
    held = [tensor for name, tensor in load_file(folder / "model.safetensors").items() if name.endswith("weight_packed")]
    words = sum(
        module.out_features * -(-module.in_features * asked.bits // 32) for module in loading.compressible(network).values()
    )
    assert sum(tensor.numel() for tensor in held) == words and {tensor.dtype for tensor in held} == {torch.int32}
    with pytest.raises(ParameterError, match="does not lie on the grid"):
        folders._save_packed(network, families.model("llama", seed=5), asked, project.root / "wrong")


def test_a_pruned_model_is_published_dense(project):
    network = prepare(project, Level.parse("2:4"))
    folder = folders.compressed_model(project, "own", Level.parse("2:4"))
    assert perplexity(loading.load_model(ModelSpec(str(folder))), WINDOWS) == perplexity(network, WINDOWS)
    assert not (folder / saved.MANIFEST).exists()


def test_the_card_says_what_was_measured(project):
    network = prepare(project, Level.parse("2bit"))
    folder = folders.adapter(project, "own", Level.parse("2bit"), 0)
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


def test_what_cannot_be_published_is_said(project):
    prepare(project, Level.parse("3bit"))
    with pytest.raises(ParameterError, match="run notebooks/02_compression"):
        folders.compressed_model(project, "own", Level.parse("4bit"))
    with pytest.raises(ParameterError, match="no prompt of own at 3bit with seed 7"):
        folders.adapter(project, "own", Level.parse("3bit"), 7)


def test_a_folder_goes_to_the_hub_and_comes_back(project):
    prepare(project, Level.parse("2bit"))
    folder = folders.adapter(project, "own", Level.parse("2bit"), 0)
    push(folder, "somebody/a-prompt")
    back = snapshot_download("somebody/a-prompt")
    for path in folder.iterdir():
        assert (folder / path.name).read_bytes() == Path(back, path.name).read_bytes()
    HUB.gated.add("somebody/closed")
    with pytest.raises(ParameterError, match="was not uploaded: .*log in with"):
        push(folder, "somebody/closed")


@pytest.mark.parametrize(("family", "begun"), [*((name, False) for name in families.FAMILIES), ("llama", True)])
def test_a_baked_prompt_gives_the_logits_of_the_stitched_one(family, begun, tokenizer, tmp_path):
    tokenizer = families.tokenizer(family) if begun else tokenizer
    network, plain = families.model(family), families.model(family)
    width = plain.get_input_embeddings().weight.shape[1]
    vectors = torch.randn(3, width, generator=torch.Generator().manual_seed(1))
    own = copy.deepcopy(tokenizer)
    own.chat_template = ("{{ bos_token }}" if begun else "") + "{% for message in messages %}{{ message.content }}{% endfor %}"
    folders.bake(network, own, vectors)
    network.save_pretrained(tmp_path)
    own.save_pretrained(tmp_path)
    again, reads = AutoModelForCausalLM.from_pretrained(tmp_path).eval(), AutoTokenizer.from_pretrained(tmp_path)
    text = "Return the sum of the axis."
    ids, words = reads(text, return_tensors="pt"), tokenizer(text, return_tensors="pt")["input_ids"]
    assert (words[0, 0] == tokenizer.bos_token_id) == begun
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
    folder = folders.baked(project, "own", LEVEL, 0)
    text = (folder / "README.md").read_text()
    assert "with a learned prompt inside" in text and "| broad |" in text and "puts the prompt's 5 tokens before every text" in text
    assert AutoModelForCausalLM.from_pretrained(folder).config.tie_word_embeddings is False
