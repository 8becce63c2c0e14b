"""Parameters: what is right is read, what is wrong stops with one sentence that names the field and what is allowed."""

from __future__ import annotations

import copy
import re
import shutil
from dataclasses import replace

import pytest
import yaml
from conftest import ROOT

from ctp_lib.recovery import base
from ctp_lib.run import graph
from ctp_lib.settings import study
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError

LEVELS = {
    "full": (None, 0.0, None, "full"),
    "4bit": (4, 0.0, None, "quantised"),
    "62.5%": (None, 0.625, None, "pruned"),
    "2:4": (None, 0.5, (2, 4), "pruned"),
    "50%+4bit": (4, 0.5, None, "joint"),
    "1:4+2bit": (2, 0.75, (1, 4), "joint"),
}


@pytest.mark.parametrize("text", LEVELS)
def test_levels_are_read_and_printed_as_people_write_them(text):
    level = Level.parse(text)
    assert (level.bits, level.sparsity, level.pattern, level.family) == LEVELS[text]
    assert str(level) == text


SLUGS = {
    "full": ("full", "none"), "3bit": ("w3", "gptq"), "62.5%": ("s62.5", "sparsegpt"), "50%+4bit": ("s50-w4", "joint"),
    "2:4": ("2of4", "sparsegpt"), "2:4+3bit": ("2of4-w3", "joint"), "2bit/g64": ("w2g64", "gptq"), "rtn:3bit/g128": ("rtn-w3g128", "rtn"),
    "wanda:2:4": ("wanda-2of4", "wanda"), "magnitude:50%": ("magnitude-s50", "magnitude"), "auto-gptq:4bit": ("auto-gptq-w4", "auto-gptq"),
}  # fmt: skip


@pytest.mark.parametrize("text", SLUGS)
def test_a_level_has_a_slug_and_a_method(text):
    level = Level.parse(text)
    assert (level.slug, level.method) == SLUGS[text] and str(level) == text


def test_slugs_are_file_names_everywhere_and_tell_levels_apart():
    slugs = [slug for slug, _ in SLUGS.values()]
    assert len(set(slugs)) == len(slugs) and all(re.fullmatch(r"[a-z0-9.-]+", slug) for slug in slugs)


NO_LEVELS = [
    "", "4", "4 bit", "1bit", "9bit", "0%", "100%", "4:2", "0:4", "4bit+3bit", "50%+2:4", "4bit+50%", "04bit", "50.0%", None,
    "gptq:4bit", "4bit/g0", "50%/g64", "full/g64", "rtn:full", "Rtn:4bit", ":4bit", "4bit/64",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_LEVELS)
def test_what_is_no_level_is_said_to_be_none(text):
    with pytest.raises(ParameterError, match=r"is not a level.*write full"):
        Level.parse(text)


def test_the_shipped_params_are_right():
    settings = study.load(ROOT / "params.yaml")
    assert [str(level) for level in settings.levels] == ["full", "4bit", "3bit", "2bit", "50%", "62.5%", "75%", "50%+4bit", "2:4"]


def test_a_profile_says_its_recipe_and_what_it_has_otherwise(tmp_path):
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["profiles"]["embedded"]["soft_prompt"] |= {"recipe": "paper", "prompt_tokens": 7, "training": {"steps": 600}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    prompt = study.load(tmp_path / "params.yaml").soft_prompt
    assert (prompt.recipe, prompt.prompt_tokens, prompt.initialisation, prompt.loss) == ("paper", 7, "first", "next-token")
    assert (prompt.training.steps, prompt.training.warmup_steps, prompt.training.learning_rate) == (600, 500, 1e-3)


BAD = [
    ("seed", "zero", "seed is 'zero'; allowed is a whole number"),
    ("study.levels", ["full", "5 bit"], "level '5 bit' is not a level"),
    ("study.levels", "4bit", "study.levels is '4bit'; allowed is a list"),
    ("study.models", ["gpt"], "study.models is 'gpt'; allowed is a name under models: reference"),
    ("models.reference.dtype", "int8", "models.reference.dtype is 'int8'; allowed is float32 or bfloat16 or float16"),
    ("models.reference.revison", "main", "models.reference.revison is not a parameter; allowed here are source, revision, dtype"),
    ("corpora.sources.documentation.colum", "text", "corpora.sources.documentation.colum is not a parameter; allowed here are"),
    ("recipes.paper.foo", 1, "recipes.paper.foo is not a parameter; allowed here are"),
    ("shipped_models.second.training.foo", 1, "shipped_models.second.training.foo is not a parameter; allowed here are steps"),
    ("models.reference.source", 7, "models.reference.source is 7; allowed is text"),
    ("corpora.held_out", 0.7, "corpora.held_out is 0.7; allowed is a share above 0 and below 0.5"),
    ("corpora.longest_document", 10, "corpora.longest_document is 10; allowed is at least shortest_document"),
    ("corpora.sources.mathematics.packages", [], "corpora.sources.mathematics.packages is (); allowed is at least one"),
    ("models", {"a:b": {"source": "x"}}, "models is 'a:b'; allowed is a name of letters, digits, dots"),
    ("study.compression.dampening", 0, "compression.dampening is 0; allowed is a number above 0"),
    ("study.compression.windows", 2.5, "compression.windows is 2.5; allowed is a whole number"),
    ("study.compression.corpus", "c4", "compression.corpus is 'c4'; allowed is one of documentation"),
    ("study.soft_prompt.prompt_tokens", 0, "soft_prompt.prompt_tokens is 0; allowed is a number above 0"),
    ("study.soft_prompt.prompt_tokens", True, "soft_prompt.prompt_tokens is True; allowed is a whole number"),
    ("study.soft_prompt.recipe", "best", "soft_prompt.recipe is 'best'; allowed is one of paper, distilled"),
    ("recipes.distilled.loss", "mse", "recipes.distilled.loss is 'mse'; allowed is next-token or distillation"),
    ("recipes.paper.prompt_tokens", 0, "recipes.paper.prompt_tokens is 0; allowed is a number above 0"),
    ("recipes.paper.training.steps", 400, "recipes.paper.training.warmup_steps is 500; allowed is 0 to steps - 1 (399)"),
    ("study.soft_prompt.training", {"steps": 5}, "soft_prompt.training.warmup_steps is"),
    ("study.soft_prompt.initialisation", "zeros", "soft_prompt.initialisation is 'zeros'; allowed is first or sampled"),
    ("recipes.distilled.training.steps", -1, "recipes.distilled.training.steps is -1; allowed is a number above 0"),
    ("recipes.distilled.training.warmup_steps", 10**6, "recipes.distilled.training.warmup_steps is 1000000; allowed is 0 to steps - 1"),
    ("recipes.distilled.training.schedule", "cosine", "recipes.distilled.training.schedule is 'cosine'; allowed is linear or trapezoid"),
    ("recipes.distilled.training.momentum", 0.9, "recipes.distilled.training.momentum is not a parameter; allowed here are steps"),
    ("study.evaluation.window", 1, "evaluation.window is 1; allowed is 2 or more"),
    ("study.evaluation.windows", {"test": 4}, "evaluation.windows is {'test': 4}; allowed is a number for validation and for test"),
    ("shipped_models.second.shape.heads", 5, "; allowed is a multiple of heads (5)"),
    ("study.levels", ["4bit"], "study.levels is ['4bit']; allowed is full, which all others are compared with, another level, and each once"),
    ("study.levels", ["full", "4bit", "4bit"], "and each once"),
    ("study.levels", ["full", "1:3"], "compression.block_size is 128; allowed is a multiple of 3 for level 1:3"),
    ("study.evaluation.windows", {"validation": 4, "test": 1}, "allowed is 2 windows or more for each split"),
    ("study.soft_prompt.seeds", [], "soft_prompt.seeds is []; allowed is one whole number or more"),
    ("study.tasks.levels", ["9bit"], "tasks.levels is '9bit'; allowed is one of full, 4bit"),
    ("study.cross_dataset.seeds", [9], "cross_dataset.seeds is 9; allowed is one of 0, 1, 2"),
    ("study.comparison.repairs", {}, "comparison.repairs is []; allowed is sections with soft_prompt and lora, which claim C8 is about"),
    ("study.comparison.compressors", ["3 bits"], "level '3 bits' is not a level"),
    ("study.size", "full", "size is not a parameter; allowed here are"),
    ("chosen", "embeded", "study is 'embeded'; allowed is one of embedded, thorough, smollm2, smollm2_pilot, english, laptop, paper"),
    ("study.corpora", ["documentation", "c5"], "study.corpora is 'c5'; allowed is one of documentation"),
    ("study.soft_prompt.corpus", "c4", "soft_prompt.corpus is 'c4'; allowed is one of documentation, python_reference, mathematics"),
    ("study.another_model.pairs", [{"model": "reference", "others": ["third"]}], "another_model.pairs is 'third'; allowed is one of"),
    ("device", "gpu", "device is 'gpu'; allowed is auto or cpu or cuda or mps"),
    ("corpora.sources.documentation", {"dataset": "a/b", "packages": ["numpy"]}, "allowed is packages, or dataset"),
    ("study.tasks.names", [], "tasks.names is []; allowed is one task or more"),
    ("study.methods", {"lora": {}}, "methods is ['lora']; allowed is a section with soft_prompt"),
    ("study.comparison.levels", ["75%"], "comparison.levels is ['75%']; allowed is full and a compressed level or more"),
    ("study.soft_prompt.recipe", ["paper"], "soft_prompt.recipe is ['paper']; allowed is one of paper, distilled"),
    ("study.models", ["reference", "reference"], "study.models is ['reference', 'reference']; allowed is one model or more, each once"),
    ("study.another_model.pairs", [{"model": "reference", "others": ["second"]}] * 2, "allowed is each model once"),
    ("profiles", None, "study is 'embedded'; allowed is one of profiles, which has none"),
    ("profiles.embedded", None, "profiles.embedded is None; allowed is sections with values"),
    ("recipes.distilled.training.learning_rate", float("inf"), "recipes.distilled.training.learning_rate is inf; allowed is a finite number"),
    ("study.soft_prompt.training", 7, "soft_prompt.training is 7; allowed is names with values"),
    ("profiles", 5, "profiles is 5; allowed is names with values"),
    ("profiles", {7: {}}, "study is 'embedded'; allowed is one of 7"),
    ("recipes", {7: {}}, "soft_prompt.recipe is 'distilled'; allowed is one of 7"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "sentence"), BAD, ids=[f"{field}={value}" for field, value, _ in BAD])
def test_a_wrong_value_is_named_with_what_is_allowed(tmp_path, field, value, sentence):
    raw = copy.deepcopy(yaml.safe_load((ROOT / "params.yaml").read_text()))
    field = field.replace("study.", "profiles.embedded.").replace("chosen", "study")
    *path, last = field.split(".")
    section = raw
    for name in path:
        section = section[name]
    section[last] = value
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    with pytest.raises(ParameterError) as caught:
        study.load(tmp_path / "params.yaml")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


BROKEN = {"a: [": "is not YAML", "a: 2020-13-45": "is not YAML", "": "not sections", "seed: 0": "device is missing"}


@pytest.mark.parametrize(("text", "sentence"), BROKEN.items())
def test_a_broken_file_is_said_to_be_broken(tmp_path, text, sentence):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParameterError, match=sentence):
        study.load(tmp_path / "params.yaml")


def test_a_level_with_a_colon_needs_no_quotes(tmp_path):
    text = (ROOT / "params.yaml").read_text().replace('"2:4"', "2:4")
    (tmp_path / "params.yaml").write_text(text)
    assert str(study.load(tmp_path / "params.yaml").levels[-1]) == "2:4"


def test_models_by_name_folder_and_hub_id(tmp_path):
    settings = study.load(ROOT / "params.yaml")
    assert settings.model("reference").source == "models/reference"
    assert settings.model("facebook/opt-125m").source == "facebook/opt-125m"
    assert settings.model(str(tmp_path)).source == str(tmp_path)
    with pytest.raises(ParameterError, match="model 'refrence' is unknown; write one of reference"):
        settings.model("refrence")


def test_run_from_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="run from inside the project"):
        study.load()


@pytest.mark.parametrize("profile", ["embedded", "thorough", "smollm2", "smollm2_pilot", "english", "laptop", "paper"])
def test_a_profile_is_one_word_and_holds_what_differs(tmp_path, profile):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    graph.choose(tmp_path, profile)
    settings, default = study.load(tmp_path / "params.yaml"), study.load(ROOT / "params.yaml")
    assert (settings == replace(default, root=settings.root)) == (profile == "embedded") and settings.study.name == profile
    assert settings.compression.dampening == default.compression.dampening
    assert list(settings.corpora.sources) == list(settings.study.corpora)


def test_the_line_that_names_the_study_is_found_however_it_is_spaced_or_said_to_be_missing(tmp_path):
    path, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    path.write_text(re.sub("(?m)^study: ", "study:   ", text))
    graph.choose(tmp_path, "laptop")
    assert study.load(path).study.name == "laptop"
    for written, sentence in (
        (re.sub("(?m)^study: ", '"study": ', text), "no line that begins with study: and a name; write one, such as study: laptop"),
        ("profiles:\nstudy: embedded", "STUDY is 'laptop'; allowed is one of profiles, which has none"),
        ("profiles: 5\nstudy: embedded", "profiles is 5; allowed is names with values"),
        ("profiles: {7: {}}\nstudy: embedded", "STUDY is 'laptop'; allowed is one of 7"),
    ):
        path.write_text(written)
        with pytest.raises(ParameterError, match=sentence):
            graph.choose(tmp_path, "laptop")
        assert path.read_text() == written


def test_the_papers_profile_is_the_papers_protocol(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    graph.choose(tmp_path, "paper")
    settings = study.load(tmp_path / "params.yaml")
    compression, recipe = settings.compression, settings.soft_prompt
    assert (compression.windows, compression.window, compression.dampening, compression.block_size) == (128, 1024, 0.01, 128)
    assert (recipe.prompt_tokens, recipe.initialisation, settings.evaluation.window) == (100, "first", 1024)
    assert (recipe.training.steps, recipe.training.learning_rate, recipe.training.warmup_steps) == (30000, 1e-3, 500)
    assert (recipe.training.schedule, recipe.training.clip, recipe.training.weight_decay) == ("linear", 1.0, 0.0)
    lora = base.sized(settings, "lora", settings.comparison.repairs["lora"].sizes["32@qv"], 1e-4)
    assert (lora.rank, lora.alpha, lora.dropout) == (32, 32.0, 0.1) and {"q_proj", "v_proj"} <= set(lora.targets)
