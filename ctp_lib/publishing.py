"""What the study made, as folders that a hub takes: a prompt as a PEFT adapter, a compressed model as a GPTQ or dense checkpoint.

``python -m ctp_lib.publishing prompt reference 75%`` or ``model reference 4bit``; ``--push OWNER/NAME`` uploads the folder as well. Each
has a card that says what it was made from and how, and what was measured.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import httpx
import torch
from huggingface_hub import HfApi, ModelCard, ModelCardData, save_torch_state_dict
from huggingface_hub.errors import HfHubHTTPError

from ctp_lib import hub, models, places, prompts, results, study
from ctp_lib.compression import files, gptq_format
from ctp_lib.study import Level, ParameterError, Study, first_line

PROMPT_USE = """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("path/to/the/compressed/model")
model = PeftModel.from_pretrained(model, "path/to/this/folder")
```
It was learned on the base model **compressed to {level}**, and belongs before that one; the files here are the prompt alone."""
DENSE_USE = """\
```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
```
The weights are dense; those that were pruned are zero."""
PACKED_USE = """\
```python
from transformers import AutoModelForCausalLM, GPTQConfig

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder", quantization_config=GPTQConfig(bits={bits}, backend="torch"))
```
The weights are packed in the GPTQ format (`gptq_v2`; {bits} bits, one group a row, asymmetric), which transformers reads through gptqmodel
and optimum. gptqmodel's other kernels for the CPU do not take groups of every width, and give wrong gradients to the inputs: keep
`backend="torch"` where prompts are trained."""

ALGORITHM = {"quantised": "GPTQ", "pruned": "SparseGPT", "joint": "SparseGPT and GPTQ in one pass"}


def prompt(settings: Study, model: str, level: Level, seed: int) -> Path:
    """Write the prompt of ``model`` at ``level`` learned with ``seed`` as a hub-ready folder, which is returned.

    Raises :class:`ParameterError` when it was not learned yet.
    """
    source = places.prompt_folder(settings, model, level, seed)
    if not (source / prompts.WEIGHTS_FILE).exists():
        raise ParameterError(
            f"there is no prompt of {model} at {level} with seed {seed}; run notebooks/03_soft_prompt with these first"
        )
    cell = results.read_cell(places.cell_path(settings, "soft_prompt", model, level))
    rows = [row for row in cell["perplexity"] if row["seed"] == seed]
    if not rows:
        raise ParameterError(
            f"the prompt of {model} at {level} with seed {seed} was not scored; run notebooks/03_soft_prompt again"
        )
    recipe = cell["recipe"]
    training = recipe["training"]
    protocol = (
        f"{recipe['prompt_tokens']} vectors, started from {'the first' if recipe['initialisation'] == 'first' else 'random'} entries of the "
        f"vocabulary, learned for {training['steps']} steps of {training['batch_windows']} windows of {rows[0]['window']} tokens of "
        f"*{recipe['corpus']}* (AdamW, learning rate {training['learning_rate']:g}, seed {seed}) by "
        f"{study.LOSSES[recipe['loss']]}; the step that was best on validation."
    )
    goal = settings.root / "published" / f"{places.file_name(model)}-{level}-prompt-{seed}"
    with places.replacing(goal) as folder:
        folder.mkdir()
        for file in ("adapter_config.json", prompts.WEIGHTS_FILE):
            shutil.copy(source / file, folder / file)
        _card(
            settings,
            model,
            level,
            folder,
            "peft",
            f"A soft prompt for {model} at {level}",
            protocol,
            rows,
            PROMPT_USE.format(level=level),
        )
    return goal


def compressed_model(settings: Study, model: str, level: Level) -> Path:
    """Write ``model`` at ``level`` as a hub-ready folder, which is returned: packed when it is quantised, dense when it is only pruned.

    Raises :class:`ParameterError` when it was not compressed yet, is not compressed at all, or does not fit the GPTQ format.
    """
    manifest = files.manifest(settings, model, level)
    if level.family == "full":
        raise ParameterError(f"{model} at full is the model as it came; publish a level that compresses it")
    source, calibration = places.compressed_folder(settings, model, level), manifest["calibration"]
    protocol = (
        f"{ALGORITHM[level.family]}, calibrated on {calibration['windows']} windows of {calibration['window']} tokens of "
        f"*{calibration['corpus']}* (dampening {calibration['dampening']:g}, seed {calibration['seed']}); "
        f"{manifest['bits_per_weight']:.3f} bits a weight when packed, mask, scales and zero points counted."
    )
    rows = results.read_cell(places.cell_path(settings, "compression", model, level))["perplexity"]
    goal = settings.root / "published" / f"{places.file_name(model)}-{level}"
    use = DENSE_USE if level.bits is None else PACKED_USE.format(bits=level.bits)
    with places.replacing(goal) as folder:
        folder.mkdir()
        if level.bits is None:
            shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(files.MANIFEST))
        else:
            _save_packed(settings.model(model), source, folder, level, calibration)
        _card(settings, model, level, folder, "transformers", f"{model} at {level}", protocol, rows, use)
    return goal


def push(folder: Path, repository: str) -> str:
    """Upload ``folder`` to ``repository``, made private if it is new, and return its address. Raises :class:`ParameterError`."""
    api = HfApi()
    try:
        address = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=f"{folder.name}, by the Compress-then-prompt study"
        )
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        raise ParameterError(
            f"{repository} was not uploaded: {first_line(error)}; log in with `hf auth login`, the folder is {folder}"
        ) from None
    return str(address)


def _save_packed(spec: study.ModelSpec, source: Path, folder: Path, level: Level, calibration: dict[str, Any]) -> None:
    network = models.load_model(spec, source, on="cpu")
    dense = models.load_model(spec, on="cpu")
    if level.family == "joint" or calibration["backend"] == "auto-gptq":
        dense = dense.float()  # these look for their grid in fp32, llmcompressor in the model's own dtype
    dense, bits = models.compressible(dense), level.bits
    state = {name: weight.half() for name, weight in network.state_dict().items()}
    if network.config.get_text_config().tie_word_embeddings:
        state.pop("lm_head.weight", None)
    for name, module in models.compressible(network).items():
        state.pop(f"{name}.weight")
        state |= gptq_format.pack(name, module.weight.detach(), dense[name].weight.detach(), bits)
    save_torch_state_dict(state, folder)
    network.config.dtype = torch.float16
    network.config.quantization_config = gptq_format.settings(bits, calibration["dampening"])
    network.config.save_pretrained(folder)
    network.generation_config.save_pretrained(folder)
    models.load_tokenizer(study.ModelSpec(str(source))).save_pretrained(folder)


def _card(
    settings: Study,
    model: str,
    level: Level,
    folder: Path,
    library: str,
    title: str,
    protocol: str,
    rows: list[dict[str, Any]],
    use: str,
) -> None:
    """Write the folder's README: what it is made from (with revision), how, what was measured, how to open it."""
    spec = settings.model(model)
    commit = hub.commit(models.folder(spec))
    tags = ["compress-then-prompt", level.family, *(["prompt-tuning"] if library == "peft" else [])]
    on_a_hub = None if (settings.root / spec.source).is_dir() else spec.source
    data = ModelCardData(base_model=on_a_hub, library_name=library, pipeline_tag="text-generation", tags=tags)
    origin = f"`{spec.source}`" + (f", revision `{commit or spec.revision}`" if commit or spec.revision else "")
    text = (
        f"---\n{data.to_yaml()}\n---\n# {title}\n\nBase model: {origin}, compressed to {level}.\n\n## How it was made\n\n{protocol}\n\n"
        f"## What was measured\n\nExact perplexity on held-out text, in windows of {rows[0]['window']} tokens: with and without a prompt the "
        f"same tokens are scored.\n\n{_table(settings, model, level, rows)}\n\n## How to open it\n\n{use}\n"
    )
    ModelCard(text).save(folder / "README.md")


def _table(settings: Study, model: str, level: Level, rows: list[dict[str, Any]]) -> str:
    """Perplexity by corpus: the uncompressed model, the level without a prompt, and, where ``rows`` have one, with it."""
    columns = {"uncompressed": _perplexities(settings, model, Level()), str(level): _perplexities(settings, model, level)}
    if rows[0]["method"] == "soft_prompt":
        columns[f"{level}, with the prompt"] = {row["evaluated_on"]: row["ppl"] for row in rows}
    lines = ["| corpus | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for corpus in (row["evaluated_on"] for row in rows):
        lines.append(
            f"| {corpus} | " + " | ".join(f"{column[corpus]:.2f}" if corpus in column else "" for column in columns.values()) + " |"
        )
    return "\n".join(lines)


def _perplexities(settings: Study, model: str, level: Level) -> dict[str, float]:
    path = places.cell_path(settings, "compression", model, level)
    return {row["evaluated_on"]: row["ppl"] for row in results.read_cell(path)["perplexity"]} if path.exists() else {}


def main() -> None:
    """The command line; one sentence on stderr when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.publishing", description="Write a hub-ready folder under published/.")
    parser.add_argument("what", choices=["prompt", "model"])
    parser.add_argument("model", help="as in params.yaml, or a folder or hub id that notebooks 02 and 03 were run with")
    parser.add_argument("level")
    parser.add_argument("--seed", type=int, help="of the prompt; the first of soft_prompt.seeds unless given")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to this repository, private at first")
    asked = parser.parse_args()
    try:
        settings, level = study.load(), Level.parse(asked.level)
        if asked.what == "prompt":
            seed = settings.soft_prompt.seeds[0] if asked.seed is None else asked.seed
            folder = prompt(settings, asked.model, level, seed)
        else:
            folder = compressed_model(settings, asked.model, level)
        print(folder.relative_to(settings.root))
        if asked.push:
            print(push(folder, asked.push))
    except ParameterError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
