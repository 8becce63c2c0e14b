"""The whole way of a model of each family, from a hub to its tasks, with the data sets of the hub."""

from __future__ import annotations

import shutil

import families
import pytest
import repositories
from conftest import HUB, ROOT, compress, learn_prompt
from peft import PeftModel

from ctp_lib.evaluation import tasks as zero_shot
from ctp_lib.evaluation.perplexity import perplexity
from ctp_lib.evaluation.subject import Subject
from ctp_lib.model import loading
from ctp_lib.recovery.soft_prompt import METHOD, Prompt
from ctp_lib.settings.compression import CompressionSpec
from ctp_lib.settings.corpora import CorpusSpec
from ctp_lib.settings.learning import SoftPromptSpec, TrainingSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.text import sources, windows
from ctp_lib.text.documents import Document
from ctp_lib.text.selection import TrainingText

pytestmark = pytest.mark.medium
TASKS = ["openbookqa", "hellaswag", "piqa", "mmlu_high_school_european_history"]
SOLVER = CompressionSpec(corpus="c4", windows=4, window=24, dampening=0.01, block_size=16)
TRAINING = TrainingSpec(steps=12, batch_windows=4, learning_rate=0.1, warmup_steps=1, validate_every=4)
RECIPE = SoftPromptSpec(corpus="c4", prompt_tokens=4, training=TRAINING, seeds=(0,), initialisation="sampled")


@pytest.fixture(scope="module", autouse=True)
def data_sets():
    repositories.build(HUB.root)


def c4() -> dict[str, list[str]]:
    spec = CorpusSpec(dataset="allenai/c4", files={
        "train": "en/c4-train.00000-of-01024.json.gz", "validation": "en/c4-validation.00000-of-00008.json.gz",
    })  # fmt: skip
    return sources.read("c4", spec, root=ROOT, seed=0, held_out=0.1)


@pytest.mark.parametrize("family", families.FAMILIES)
def test_from_the_hub_to_the_tasks(family, tmp_path):
    spec = ModelSpec(f"everybody/{family}")
    families.save(family, HUB.root / "models" / spec.source)
    tokenizer = loading.load_tokenizer(spec)
    rows = {split: windows.tokens([Document("", text) for text in texts], tokenizer) for split, texts in c4().items()}
    train = windows.shuffled_batches(rows["train"], 24, TRAINING.batch_windows, 0)
    validation, test = (windows.windows(rows[split], 24, 8) for split in ("validation", "test"))
    network = compress(loading.load_model(spec), Level.parse("2bit"), windows.random_windows(rows["train"], 24, 4, 0), SOLVER)
    prompt, run = learn_prompt(
        network, RECIPE, TrainingText(train, validation, "c4"), seed=0, checkpoint=tmp_path / "checkpoint", label=family
    )
    assert run.best_nll < run.curve[0]["validation_nll"]
    assert perplexity(network, test, prompt()).nll != perplexity(network, test).nll
    Prompt(prompt()).save(tmp_path / "prompt", spec, network)
    whole = loading.load_model(spec)
    stitched = METHOD.load(tmp_path / "prompt", whole).vectors
    assert stitched.equal(prompt().detach()) and perplexity(whole, test, stitched).prompt_tokens == 4
    assert PeftModel.from_pretrained(loading.load_model(spec), tmp_path / "prompt")(input_ids=test[:2]).logits.isfinite().all()
    window = families.CONTEXT - RECIPE.prompt_tokens
    none, prompted = (
        zero_shot.evaluate(Subject(whole, vectors), tokenizer, TASKS, [tmp_path], max_length=window, tokens_at_once=2000, limit=8)
        for vectors in (None, stitched)
    )
    assert [score.task for score in none] == TASKS == [score.task for score in prompted]
    assert all(len(score.correct) == 8 for score in (*none, *prompted))
    shutil.rmtree(HUB.root / "models" / spec.source)
