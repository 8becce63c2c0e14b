"""What is published: folders that a hub takes, each with a page: what it is made from, how, what was measured, how to open it.

A compressed model is packed by compressed-tensors where it lies on a grid, and dense otherwise. A learned prompt is a PEFT adapter; or it is
baked into its model: the n vectors become n rows more of the embedding, ``<prompt_0>`` and so on, which the tokenizer writes before every text
and every chat. The prompt comes first, as it was learned: if the tokenizer begins texts with a special token, that token comes after the
prompt.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from compressed_tensors import ModelCompressor, quantization
from compressed_tensors.quantization.utils import calculate_qparams
from huggingface_hub import ModelCard, ModelCardData
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import AddedToken, PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.compression import reached, saved
from ctp_lib.compression.base import method_for, registry
from ctp_lib.compression.grid import asymmetric
from ctp_lib.model import hub, loading
from ctp_lib.recovery import scores
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.recovery.soft_prompt import METHOD as PROMPT
from ctp_lib.recovery.soft_prompt import WEIGHTS_FILE, read
from ctp_lib.settings import models, paths
from ctp_lib.settings.learning import LOSSES
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study
from ctp_lib.text import windows

OFF_GRID = 5e-3  # of its size: how far a weight that was saved in 16 bits may lie from its grid point; bf16 rounds by up to 0.0039
USE = """\
```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
```
"""
DENSE = "The weights are dense; those that were pruned are zero."
PACKED = (
    "The weights are packed by compressed-tensors (`pack-quantized`), which has to be installed; transformers and vLLM read them."
)
ADAPTER = """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("path/to/the/model")
model = PeftModel.from_pretrained(model, "path/to/this/folder")
```
It was learned on the base model, **{made}**, so use it with that model; this folder holds the prompt alone. The study that made it writes
the model too: `python -m ctp_lib.publishing model` with the model's name and the level."""
BAKED = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = (kind.from_pretrained("path/to/this/folder") for kind in (AutoModelForCausalLM, AutoTokenizer))
```
The tokenizer puts the prompt's {tokens} tokens before every text, so nothing else is to be done. The prompt comes first, before the
beginning-of-sequence token if there is one, as it was learned. The model never writes these tokens."""


@dataclass(frozen=True)
class Page:
    """Of a ``model`` at a ``level``, for a ``library``: how it was made and is opened, in words, and its ``rows`` of ``perplexity.csv``."""

    settings: Study
    model: str
    level: Level
    kind: str
    title: str
    library: str
    protocol: str
    use: str
    rows: list[dict[str, Any]]

    @property
    def goal(self) -> Path:
        """The folder that is published."""
        return self.settings.root / "published" / f"{models.slug(self.model)}-{self.level.slug}{self.kind}"

    @contextmanager
    def published(self) -> Iterator[Path]:
        """An empty folder, which becomes :attr:`goal`, with this page as its README, when what belongs into it is there."""
        with paths.replacing(self.goal) as folder:
            folder.mkdir()
            yield folder
            ModelCard(self._text()).save(folder / "README.md")

    def _text(self) -> str:
        spec = self.settings.model(self.model)
        commit = hub.commit(loading.folder(spec))
        tags = ["compress-then-prompt", self.level.family, *(["prompt-tuning"] if self.library == "peft" else [])]
        on_a_hub = None if spec.gguf or (spec.root / spec.source).is_dir() else spec.source
        data = ModelCardData(base_model=on_a_hub, library_name=self.library, pipeline_tag="text-generation", tags=tags)
        origin = f"`{spec.source}`" + (f", revision `{commit or spec.revision}`" if commit or spec.revision else "")
        return (
            f"---\n{data.to_yaml()}\n---\n# {self.title}\n\nBase model: {origin}, {_made(self.level)}.\n\n## How it was made\n\n"
            f"{self.protocol}\n\n## What was measured\n\nExact perplexity on held-out text, in windows of {self.rows[0]['window']} tokens: "
            f"with and without a prompt the same tokens are scored.\n\n{self._table()}\n\n## How to open it\n\n{self.use}\n"
        )

    def _table(self) -> str:
        """Perplexity by corpus: the uncompressed model, the level by itself, and, where the rows have one, with what was learned."""
        whole = self.settings.model(self.model).as_it_came
        here = whole if self.level.family == "full" else str(self.level)
        scored = {whole: self._alone(Level()), here: self._alone(self.level)}
        if self.rows[0]["method"] != NONE.name:
            scored[f"{here}, with the prompt"] = self.rows
        found = {name: {row["evaluated_on"]: f"{row['ppl']:.2f}" for row in rows} for name, rows in scored.items()}
        lines = [
            ["corpus", *found],
            *([row["evaluated_on"], *(one[row["evaluated_on"]] for one in found.values())] for row in self.rows),
        ]
        head, *body = (f"| {' | '.join(cells)} |" for cells in lines)
        return "\n".join([head, "|---" * len(lines[0]) + "|", *body])

    def _alone(self, level: Level) -> list[dict[str, Any]]:
        return scores.obtain(self.settings, self.model, level, NONE.name)["perplexity"]


def _made(level: Level) -> str:
    return "as it came" if level.family == "full" else f"compressed to {level}"


def compressed_model(settings: Study, model: str, level: Level) -> Path:
    """Write ``model`` at ``level`` as a hub-ready folder, which is returned: packed when its weights are quantised, dense otherwise.

    Raises :class:`ParameterError` when it was not compressed yet, is not compressed at all, or does not lie on its grid.
    """
    source = paths.compressed(settings, model, level)
    if level.family == "full":
        raise ParameterError(f"{model} at full is the model as it came; publish a level that compresses it")
    if level.given:
        raise ParameterError(f"{model} at {level} is published already, by whom it came from; publish a prompt of it")
    if not source.exists():
        remedy = f"run notebooks/02_compression with model {model!r}, level '{level}'"
        raise ParameterError(f"{model} at {level} is not compressed yet; {remedy}")
    rows, use = scores.obtain(settings, model, level, NONE.name)["perplexity"], USE + (PACKED if level.bits else DENSE)
    page = Page(settings, model, level, "", f"{model} at {level}", "transformers", _protocol(settings, model, level), use, rows)
    with page.published() as folder:
        if level.bits:
            dense = loading.load_model(settings.model(model))
            dense = dense.float() if method_for(level, registry(settings)).grid_in_fp32 else dense
            _save_packed(loading.load_model(settings.model(model), source), dense, level, folder)
            loading.load_tokenizer(ModelSpec(str(source))).save_pretrained(folder)
        else:
            shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(saved.MANIFEST))
    return page.goal


def _protocol(settings: Study, model: str, level: Level) -> str:
    made, spec, how = saved.make(settings, model, level), settings.compression, "without calibration"
    if "calibration" in made:
        how = f"calibrated on {spec.windows} windows of {spec.window} tokens of *{spec.corpus}*"
        how += f" (dampening {spec.dampening:g}, seed {settings.seed})"
    bits = reached.obtain(settings, model, level)["reached"]["bits_per_weight"]
    return f"{method_for(level, registry(settings)).label}, {how}; {bits:.3f} bits per weight when packed, mask, scales and zero points counted."


def _save_packed(network: PreTrainedModel, dense: PreTrainedModel, level: Level, folder: Path) -> None:
    """``network`` at ``level`` into ``folder``, as codes on the grid of ``dense``, whose dtype is that in which the grid was looked for."""
    grid, matrices, before = asymmetric(level.bits, level.group), loading.compressible(network), loading.compressible(dense)
    others = [name for name, module in network.named_modules() if isinstance(module, nn.Linear) and name not in matrices]
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=grid)
    quantization.apply_quantization_config(network, quantization.QuantizationConfig(config_groups={"all": scheme}, ignore=others))
    for name, module in matrices.items():
        rows = before[name].weight.reshape(-1, level.group or module.in_features)
        scale, zero = (found.view(module.out_features, -1) for found in calculate_qparams(rows.amin(1), rows.amax(1), grid))
        module.weight_scale.data, module.weight_zero_point.data = scale.float(), zero.to(module.weight_zero_point.dtype)
        on_grid = quantization.fake_quantize(module.weight, scale.float(), zero, grid)
        step = scale.float().repeat_interleave(rows.shape[1], 1)
        if ((on_grid - module.weight).abs() > OFF_GRID * module.weight.abs().maximum(step)).any():
            off = f"{name} does not lie on the grid of {level} of the model it was made from"
            raise ParameterError(f"{off}; compress that model again, or publish another level")
        module.quantization_status = quantization.QuantizationStatus.FROZEN
    compressor = ModelCompressor.from_pretrained_model(network, "pack-quantized")
    compressor.compress_model(network)
    network.half().save_pretrained(folder)
    compressor.update_config(folder)


def adapter(settings: Study, model: str, level: Level, seed: int) -> Path:
    """The prompt of ``model`` at ``level`` and ``seed`` as a folder for a hub; :class:`ParameterError` when it was not learned yet."""
    page = _page(settings, model, level, seed, "prompt", title=f"A soft prompt for {model} at {level}", library="peft", use=ADAPTER)
    source = paths.learned(settings, model, level, PROMPT.name, seed)
    with page.published() as folder:
        for file in ("adapter_config.json", WEIGHTS_FILE):
            shutil.copy(source / file, folder / file)
    return page.goal


def baked(settings: Study, model: str, level: Level, seed: int) -> Path:
    """``model`` at ``level`` with its prompt of ``seed`` inside as a folder for a hub; :class:`ParameterError` when that was not learned yet."""
    title = f"{model} at {level}, with a learned prompt inside"
    page = _page(settings, model, level, seed, "baked", title=title, library="transformers", use=BAKED)
    network, tokenizer = saved.load(settings, model, level), loading.load_tokenizer(settings.model(model))
    bake(network, tokenizer, read(paths.learned(settings, model, level, PROMPT.name, seed), network))
    with page.published() as folder:
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return page.goal


def _page(settings: Study, model: str, level: Level, seed: int, kind: str, *, title: str, library: str, use: str) -> Page:
    if not (paths.learned(settings, model, level, PROMPT.name, seed) / WEIGHTS_FILE).exists():
        missing = f"there is no prompt of {model} at {level} with seed {seed}"
        raise ParameterError(f"{missing}; run notebooks/03_soft_prompt with these first")
    cell = scores.obtain(settings, model, level, PROMPT.name)
    rows, recipe = [row for row in cell["perplexity"] if row["seed"] == seed], cell["recipe"]
    training, tokens = recipe["training"], recipe["prompt_tokens"]
    batch = "one window" if training["batch_windows"] == 1 else f"{training['batch_windows']} windows"
    protocol = (
        f"{tokens} vectors, started from {'the first' if recipe['initialisation'] == 'first' else 'random'} entries of the vocabulary, "
        f"learned for {training['steps']} steps, each on {batch} of {rows[0]['window']} tokens of "
        f"*{recipe['corpus']}* (AdamW, learning rate {training['learning_rate']:g}, seed {seed}) by {LOSSES[recipe['loss']]}; the step that "
        "was best on validation."
    )
    opened = use.format(made=_made(level), tokens=tokens)
    return Page(settings, model, level, f"-{kind}-{seed}", title, library, protocol, opened, rows)


@torch.no_grad()
def bake(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, vectors: torch.Tensor) -> None:
    """Put ``vectors`` (n x hidden) into ``network`` and ``tokenizer``, in place.

    Rows of an output head of its own are zero for the new tokens, so that they change the probabilities of the others hardly at all.
    """
    embed, head = network.get_input_embeddings(), network.get_output_embeddings()
    old, begins = len(embed.weight), tokenizer.convert_ids_to_tokens(windows.beginning(tokenizer))
    scale = embed(torch.zeros(1, dtype=torch.int64)).norm() / embed.weight[0].norm()  # some models scale on the way in
    names = [f"<prompt_{place}>" for place in range(len(vectors))]
    unused = old - len(tokenizer)  # rows that no token has: named, so that the new tokens stand behind them
    tokenizer.add_tokens([AddedToken(f"<unused_row_{row}>", special=True) for row in range(unused)])
    tokenizer.add_tokens([AddedToken(name, special=True) for name in names])
    for config in (network.config, network.config.get_text_config()):
        config.tie_word_embeddings = False
    head.weight = nn.Parameter(head.weight.clone(), requires_grad=False)  # where it was the embedding's own
    network.resize_token_embeddings(old + len(vectors), mean_resizing=False)
    network.get_input_embeddings().weight[old:] = (vectors / scale).to(embed.weight)
    for of_head in network.get_output_embeddings().parameters():
        of_head[old:] = 0
    ids = tokenizer.convert_tokens_to_ids(names)
    network.generation_config.suppress_tokens = ids
    before = [*names, *begins]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*before, "$A"], pair=[*before, "$A", "$B"],
        special_tokens=list(zip(before, tokenizer.convert_tokens_to_ids(before), strict=True)),
    )  # fmt: skip
    if tokenizer.chat_template:
        tokenizer.chat_template = "".join(names) + tokenizer.chat_template
