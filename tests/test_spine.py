"""The whole way of a number, from text to the verdict, on a model that nobody made this code for: a GPT-NeoX of a hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import HUB, ROOT, SHAPE, small_model
from peft import PeftModel
from transformers import GPTNeoXConfig

from benchmarks import recipe_page
from ctp_lib.appendix import small_models

pytestmark = pytest.mark.medium
LEVELS = ["full", "50%+4bit"]
OWN = "somebody/own-neox"
JOINT = ["-p", "level", "50%+4bit"]
QUESTIONS = {
    "04_central_result": [],
    "06_hard_prompt": JOINT,
    "07_cross_dataset": [],
    "08_cross_compression": [],
    "10_what_repairs": [],
    "05_metric_audit": JOINT,
    "09_cross_task": [],
    "11_every_repair": [],
    "12_a_prompt_for_each_input": JOINT,
    "09b_knowledge": [],
    "13_stored_size": [],
    "14_cost": JOINT,
    "15_nearest_tokens": JOINT,
    "16_another_model": [],
    "17_findings": [],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project folder with a small study in it, every notebook of it executed."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    (folder / "params.yaml").write_text(yaml.safe_dump(small_params(), sort_keys=False))
    run(folder, "ctp_lib.text.corpora")
    shutil.copy(ROOT / "requirements.txt", folder)
    own_model(HUB.root / "models" / OWN)
    run(folder, "ctp_lib.run.cell", "notebooks/appendix/a1_small_models.py")
    run(folder, "ctp_lib.run.cell", "notebooks/01_corpora.py")
    for level in LEVELS:
        for notebook in ("02_compression", "03_soft_prompt"):
            run(folder, "ctp_lib.run.cell", f"notebooks/{notebook}.py", "-p", "model", "own.model", "-p", "level", level)
    for notebook, more in QUESTIONS.items():
        run(folder, "ctp_lib.run.cell", f"notebooks/{notebook}.py", "-p", "model", "own.model", *more)
    return folder


def small_params() -> dict:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["models"]["own.model"] = {"source": OWN}
    profile = params["profiles"]["embedded"]
    profile |= {"models": ["own.model"], "levels": LEVELS}
    sources = params["corpora"]["sources"]
    for name, packages in (("documentation", ["seaborn", "nltk"]), ("python_reference", ["narwhals"]), ("mathematics", ["mpmath"])):
        sources[name]["packages"] = packages
    shape = {"layers": 1, "width": 32, "heads": 2, "feed_forward": 48, "vocabulary": 4096, "context": 64}
    for shipped in params["shipped_models"].values():
        shipped["shape"] = shape
        shipped["training"] = shipped["training"] | {"steps": 3, "batch_windows": 2, "warmup_steps": 1}
    profile["compression"] |= {"windows": 4, "window": 48}
    training = {"steps": 6, "batch_windows": 2, "warmup_steps": 1, "validate_every": 3}
    profile["soft_prompt"] |= {"prompt_tokens": 4, "seeds": [0, 1], "training": training}
    profile["hard_prompt"] |= {"items": 8, "context": 16, "continuation": 8, "show": 1}
    profile["cross_dataset"] |= {"levels": LEVELS, "seeds": [0]}
    profile["cross_compression"] = {"seeds": [0, 1]}
    profile["tasks"] |= {"items": 8, "levels": LEVELS, "seeds": [0]}
    repairs = profile["comparison"]["repairs"]
    repairs["soft_prompt"] |= {"rates": [0.1, 0.5], "sizes": {"4 vectors": {"prompt_tokens": 4}, "2 vectors": {"prompt_tokens": 2}}}
    repairs["lora"] |= {"rates": [0.01], "sizes": {"1@qv": {"rank": 1}, "2@all": repairs["lora"]["sizes"]["1@all"] | {"rank": 2}}}
    small = {
        "dept": {"rates": [0.1], "sizes": {"as 4 vectors": {"positions": 8, "share": 0.2}}},
        "eora": {"sizes": {"rank 2": {"rank": 2}}},
        "sink": repairs["sink"],
    }
    profile["comparison"] |= {
        "levels": LEVELS,
        "seeds": [0],
        "repairs": {**{name: repairs[name] for name in ("soft_prompt", "lora")}, **small},
        "compressors": ["wanda:50%", "dsnot:50%"],
    }
    profile["knowledge"] = {"relations": ["capital", "symbol"], "items": 8, "levels": LEVELS, "methods": ["soft_prompt", "eora"]}
    profile["another_model"] = {"pairs": [{"model": "own.model", "others": ["own.model"]}], "levels": LEVELS}
    profile["evaluation"] = {"window": 48, "windows": {"validation": 4, "test": 6}}
    return params


def own_model(target: Path) -> None:
    texts = ["Draw the estimate with its error bars.", "Return the n-th root of x."] * 20
    small_model(layers=1, context=512, kind=GPTNeoXConfig).save_pretrained(target)
    small_models.train_tokenizer(texts, SHAPE).save_pretrained(target)


def run(folder: Path, *module: str) -> None:
    around = os.environ | {"PYTHONPATH": str(ROOT)}  # the benchmarks are not installed
    done = subprocess.run([sys.executable, "-m", *module], cwd=folder, env=around, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_cell_is_in_the_tables(project):
    table = pd.read_csv(project / "results" / "embedded" / "perplexity.csv", keep_default_na=False)
    assert set(table.tokens_scored) == {6 * 47}
    central = table[table.point.eq("") & table.trained_at_level.isin(["", *LEVELS])]
    compared = {"lora", "dept", "eora", "sink"}
    assert {"none", "soft_prompt"} <= set(central.method) and set(table.method) == {"none", "soft_prompt", *compared}
    assert set(table[table.method == "none"].level) == {*LEVELS, "wanda:50%", "dsnot:50%"}
    none = table[table.prompt_tokens == 0]
    assert (none.ppl == none.ppl_released).all()
    prompted = table[table.method == "soft_prompt"]
    assert (prompted.ppl_released < prompted.ppl).all() and set(prompted.prompt_tokens) == {2, 4}
    cost = pd.read_csv(project / "results" / "embedded" / "cost.csv")
    waits = {"read", "write", "read, alone", "write, alone"}
    assert set(cost.work) == {"compress", "train", "evaluate", *waits} and (cost.seconds > 0).all()
    tasks = pd.read_csv(project / "results" / "embedded" / "tasks.csv")
    repaired = 2 + 4  # a prompt and LoRA at full, DePT and EoRA too where compressed; controls are not asked
    assert len(tasks) == 3 * (len(LEVELS) * 2 + repaired) and set(tasks.n) == {8} and tasks.value.between(0, 1).all()


def test_no_score_is_taken_twice(project):
    table = pd.read_csv(project / "results" / "embedded" / "perplexity.csv", keep_default_na=False)
    study_own = table[table.point.eq("") & table.prompt_kind.eq("learned")]
    assert not study_own.duplicated(["level", "trained_on", "trained_at_level", "evaluated_on", "seed"]).any()


def test_the_ledger_has_an_outcome_for_every_claim_but_one(project):
    claims = json.loads((project / "results" / "embedded" / "claims.json").read_text())
    outcomes = {claim["claim"]: claim["outcome"] for claim in claims}
    ours = {*(f"C{n}" for n in range(1, 13) if n != 10), "repair"}
    assert set(outcomes) == ours | {"DePT", "DSnoT", "EoRA", "IDP"} | {f"K{n}" for n in range(1, 7)}
    assert set(outcomes.values()) <= {"supported", "contradicted", "undecided", "not measured"}
    assert outcomes["C6"] == "not measured"  # one compressed level, no other to stitch to
    assert all((project / "results" / "embedded" / file).exists() for claim in claims for file in claim["rows"])
    page = (project / "results" / "embedded" / "findings.md").read_text()
    assert all(f"| [{claim}](" in page for claim in outcomes)
    summary = json.loads((project / "results" / "embedded" / "summary.json").read_text())["own.model"]
    assert summary["verdicts"] == outcomes and list(summary["recovered"]) == LEVELS[1:]


def test_every_experiment_drew_its_figure(project):
    drawn = {path.stem for path in (project / "figures" / "embedded" / "own.model").glob("*.svg")}
    assert {name.split("_")[0] for name in drawn} == {*map(str, range(1, 13)), "5b", "5c", "6b", "11b", "11c", "s1"}
    assert all(path.stat().st_size > 1000 for path in (project / "figures" / "embedded" / "own.model").iterdir())
    assert not list((project / "models" / "embedded" / "checkpoints").glob("*.safetensors")), "finished, so nothing to go on from"


def test_the_reference_model_is_trained_measured_and_described(project):
    cell = json.loads((project / "results" / "recorded" / "small_models" / "reference.json").read_text())
    assert [row["step"] for row in cell["curve"]] == [0, 3] and cell["curve"][0]["training_loss"] is None
    assert {row["evaluated_on"] for row in cell["perplexity"]} == {"documentation", "python_reference", "mathematics"}
    assert sorted(path.name for path in (project / "models/reference").iterdir() if path.suffix == ".safetensors") == [
        "model.safetensors"
    ]
    card = json.loads((project / "results" / "embedded" / "corpora.json").read_text())
    assert len(card["splits"]) == 9 and all(row["tokens"] > row["documents"] > 0 for row in card["splits"])
    assert set(card["versions"]) == {"seaborn", "nltk", "narwhals", "mpmath"}


def test_the_same_cell_again_gives_the_same_bytes(project):
    path = project / "models/embedded/learned/own.model/full/soft_prompt/seed-1/adapter_model.safetensors"
    before = path.read_bytes()
    shutil.rmtree(path.parent)
    folder = project / "notebooks"  # as JupyterLab runs it: from where the notebooks are
    code = (
        (folder / "03_soft_prompt.py").read_text().replace('model = "reference"', 'model = "own.model"').replace('"75%"', '"full"')
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == before


def test_both_recipes_are_learned_and_kept(project, tmp_path):
    asked = ["benchmarks.recipe", "--levels", "50%+4bit", "--seeds", "0", "--steps", "5", "--into", str(tmp_path)]
    run(project, *asked)
    kept = (tmp_path / "recipe.json").read_text()
    record = json.loads(kept)["shapes"]["5"]
    paper, ours = record["runs"]
    assert (paper["recipe"], paper["tokens"], ours["recipe"], ours["tokens"]) == ("paper", 5 * 4 * 48, "distilled", 2 * 48)
    assert paper["test_none"] == ours["test_none"] != ours["test"] and len(paper["curve"]) == 6
    assert recipe_page.ends(record).seeds.to_dict() == {"50%+4bit": 1}
    run(project, *asked)  # nothing is learned again
    assert json.loads((tmp_path / "recipe.json").read_text())["shapes"]["5"]["runs"] == record["runs"]


def test_the_manifest_says_what_a_model_was_made_by_and_the_cell_what_was_reached(project):
    manifest = json.loads((project / "models/embedded/compressed/own.model/s50-w4/manifest.json").read_text())["identity"]
    assert manifest["level"] == "50%+4bit" and manifest["method"] == "joint" and manifest["calibration"]["windows"] == 4
    assert manifest["base"]["source"] == OWN and len(manifest["base"]["commit"]) == 40
    reached = json.loads((project / "results/embedded/compression/own.model/s50-w4.json").read_text())["reached"]
    assert all(layer["sparsity"] >= 0.5 and layer["distinct_values"] <= 16 for layer in reached["layers"])
    assert len(reached["layers"]) == 4 and reached["mask_digest"]


def test_peft_opens_the_prompt_of_the_study(project):
    prompted = PeftModel.from_pretrained(
        small_model(layers=1, kind=GPTNeoXConfig), project / "models/embedded/learned/own.model/full/soft_prompt/seed-0"
    )
    assert prompted.active_peft_config.num_virtual_tokens == 4


def test_executed_copies_carry_no_times(project):
    notebook = json.loads((project / "results/embedded/runs/03_soft_prompt/own.model-full.ipynb").read_text())
    assert "papermill" not in notebook["metadata"]
    assert not any({"papermill", "execution"} & set(cell["metadata"]) for cell in notebook["cells"])
    assert "step/s" not in json.dumps(notebook) and "s/step" not in json.dumps(notebook)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


def test_a_notebook_makes_what_is_missing(project):
    """A level that nobody compressed, learned on or scored before: the notebook does it, and leaves the others as they are."""
    other = project / "models/embedded/compressed/own.model/full/manifest.json"
    before = other.stat().st_mtime_ns
    run(project, "ctp_lib.run.cell", "notebooks/03_soft_prompt.py", "-p", "model", "own.model", "-p", "level", "rtn:3bit/g16")
    assert (project / "models/embedded/compressed/own.model/rtn-w3g16/model.safetensors").exists()
    assert (project / "models/embedded/learned/own.model/rtn-w3g16/soft_prompt/seed-1/adapter_config.json").exists()
    assert (project / "results/embedded/runs/03_soft_prompt/own.model-rtn-w3g16.ipynb").exists()
    assert other.stat().st_mtime_ns == before


def test_a_model_that_exists_is_not_trained_anew(project):
    command = [sys.executable, "-m", "ctp_lib.run.cell", "notebooks/appendix/a1_small_models.py"]
    before = (project / "models/reference/model.safetensors").stat().st_mtime_ns
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "replace_it is False; allowed is True, since models/reference exists" in done.stderr
    assert (project / "models/reference/model.safetensors").stat().st_mtime_ns == before
