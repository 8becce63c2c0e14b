"""Which sections of a study a notebook reads: by the names that its code, and the functions it reaches, take of ``settings``."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

from ctp_lib.settings import digests
from ctp_lib.settings.study import Study

SECTIONS = {field.name for field in dataclasses.fields(Study)} - {"root", "device", "models", "plugins", "recipes"}


def _reads(node: ast.AST) -> tuple[set[str], set[str]]:
    """Sections that are taken of a study in ``node``, and all names in it."""
    sections, names = set(), set()
    for found in ast.walk(node):
        if isinstance(found, ast.Attribute):
            of = found.value
            base = of.id if isinstance(of, ast.Name) else of.attr if isinstance(of, ast.Attribute) else None
            if base in ("settings", "study"):
                sections |= {"study"} if found.attr == "levels" else {found.attr} & SECTIONS
            names.add(found.attr)
        elif isinstance(found, ast.Name):
            names.add(found.id)
    return sections, names


def read_by(entry: Path) -> set[str]:
    """The sections that ``entry`` reads, itself or through the functions of the library that it reaches by their names."""
    functions: dict[str, tuple[set[str], set[str]]] = {}
    for module in digests.code([entry])["modules"]:
        if (path := digests.LIBRARY / module).is_file():
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef):
                    sections, names = _reads(node)
                    known = functions.setdefault(node.name, (set(), set()))
                    known[0].update(sections)
                    known[1].update(names)
    sections, waiting = _reads(ast.parse(digests._without_parameters(entry.read_text())))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in functions and name not in seen:
            seen.add(name)
            sections |= functions[name][0]
            waiting |= functions[name][1]
    return sections
