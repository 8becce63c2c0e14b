"""One bit of a file that a study keeps is flipped: what is read is what was written, or a sentence says which file to delete."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_file
import pytest
import small_study
import torch
from conftest import ROOT

from ctp_lib.compression import saved
from ctp_lib.model import gguf, loading
from ctp_lib.model.divergence import Teacher
from ctp_lib.recovery import scores
from ctp_lib.recovery.bench import Bench
from ctp_lib.results import cells, tensor_file
from ctp_lib.settings import paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.text.documents import documents

FLIPS = 40
LEVEL = Level.parse("3bit")
METHODS = {"soft_prompt": {}, "lora": {"rank": 2, "training": {"learning_rate": 0.1}}}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return small_study.make(tmp_path_factory.mktemp("damage"), levels=["full", str(LEVEL)], methods=METHODS)


def survives(file: Path, read: Callable[[], Any], flips: int = FLIPS) -> int:
    """How many of ``flips`` single bits were noticed; each was, or changed nothing. The file is as before in the end."""
    whole, draw, noticed = file.read_bytes(), random.Random(0), 0
    before = read()
    for _ in range(flips):
        place = draw.randrange(len(whole))
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        try:
            assert read() == before, f"bit flipped in byte {place} of {file.name}"
        except ParameterError as error:
            noticed += 1
            assert str(file) in str(error) and "delete" in str(error)
    file.write_bytes(whole)
    assert read() == before
    return noticed


def bytes_of(network: torch.nn.Module) -> dict[str, bytes]:
    return {name: weight.numpy().tobytes() for name, weight in network.state_dict().items()}


def test_corpora(study):
    file = paths.corpora(study) / "broad" / "test.jsonl.gz"
    assert survives(file, lambda: list(documents(paths.corpora(study), "broad", "test"))) > FLIPS / 2


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", saved.MANIFEST])
def test_a_compressed_model(study, name):
    saved.make(study, "own", LEVEL)
    file = paths.compressed(study, "own", LEVEL) / name
    assert survives(file, lambda: bytes_of(saved.load(study, "own", LEVEL)), flips=15) > (name != saved.MANIFEST) * 14


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", paths.LEARNED])
def test_what_was_learned(study, method, name):
    bench = Bench(study, "own", LEVEL)
    vectors = bench.learned(method, 0)
    assert vectors.parameters
    file = paths.learned(study, "own", LEVEL, method, 0) / name

    def read() -> Any:
        learned = Bench(study, "own", LEVEL).learned(method, 0, onto=bench.network)
        weights = learned.weights if method == "lora" else {"": learned.vectors}
        return {key: weight.numpy().tobytes() for key, weight in weights.items()}, learned.run.curve

    assert survives(file, read) > (name != paths.LEARNED) * (FLIPS - 1)


def test_a_cell(study):
    scores.obtain(study, "own", LEVEL, "none")
    file = paths.score(study, "own", LEVEL, "none")

    def read() -> Any:
        found = scores.obtain(study, "own", LEVEL, "none")
        return found["cell"], found["perplexity"]

    assert survives(file, read, flips=200) > 50


def test_a_checkpoint(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    tensor_file.save(file, {"half": torch.randn(50).half(), "number": torch.tensor(3)}, {"loss": [1.5, None]})

    def read() -> Any:
        tensors, values = tensor_file.load(file)
        return {name: (str(tensor.dtype), tensor.tolist()) for name, tensor in tensors.items()}, values

    assert survives(file, read, flips=200) > 100


def test_what_the_uncompressed_model_predicts_is_made_again(study, tmp_path):
    teacher, windows = Teacher(loading.load_model(study.model("own")), tmp_path), torch.arange(24)[None] + 20
    before = teacher.predicts(windows)[0]
    (file,) = tmp_path.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 64]))
    assert torch.allclose(teacher.predicts(windows)[0], before, atol=1e-2)  # the bit that was flipped is worth more
    assert torch.allclose(tensor_file.load(file)[0]["states"].float(), before.float(), atol=1e-2)


def test_what_was_imported(tmp_path):
    gguf_file.write(ROOT / "models/reference", tmp_path / "own.gguf")
    spec = ModelSpec("own.gguf", root=tmp_path)
    file = gguf.folder(spec) / "model.safetensors"
    assert survives(file, lambda: bytes_of(loading.load_model(spec)), flips=10) == 10


def test_damage_that_nobody_reads_is_not_complained_of(study):
    """Costs lie apart; a cell without a digest, of an older run, is read as it is."""
    file = paths.results(study) / "old.json"
    file.write_text('{"cell": {"model": "own"}, "perplexity": []}')
    assert cells.read(file) == {"cell": {"model": "own"}, "perplexity": []}
