"""English prose that is already on the reader's disk: documentation, read as text.

A *document* is one docstring headed by the qualified name of what it documents, or one topic of the Python language reference. Source files
are parsed with :mod:`ast` and not imported, so reading a package has no side effects and needs none of its dependencies.
"""

import ast
import importlib.metadata
import inspect
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from ctp_lib.settings.spec import ParameterError

STANDARD_LIBRARY = "python"  # the name under which the standard library and its language reference are asked for

_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_DOCSTRING_CALLS = {"add_docstr", "_add_docstr", "add_newdoc", "add_doc"}
_SKIPPED_FOLDERS = {"test", "tests", "testing", "idlelib", "lib2to3", "site-packages", "__pycache__"}


def read_package(distribution: str) -> list[tuple[str, str]]:
    """``(qualified name, docstring)`` of every object of a distribution, or :data:`STANDARD_LIBRARY`, by file, then position: always alike."""
    found = []
    if distribution == STANDARD_LIBRARY:
        found += [(f"Python language reference: {topic}", text) for topic, text in topics.items()]
    for relative, path in _files(distribution):
        module = relative.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        found += _documented_objects(path, module)
    return found


def installed_version(distribution: str) -> str:
    """The version of a distribution, or of Python for :data:`STANDARD_LIBRARY`; :class:`ParameterError` when it is not installed."""
    if distribution == STANDARD_LIBRARY:
        return platform.python_version()
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        missing = f"corpora: package {distribution!r} is not installed"
        raise ParameterError(f"{missing}; install requirements.txt, or take it out of params.yaml") from None


def _files(distribution: str) -> list[tuple[str, Path]]:
    """Its modules, by their place in it, without those of tests."""
    if distribution == STANDARD_LIBRARY:
        root = Path(sysconfig.get_path("stdlib"))
        files = [(path.relative_to(root).as_posix(), path) for path in root.rglob("*.py")]
    else:
        files = [(str(file), Path(file.locate())) for file in importlib.metadata.files(distribution) or ()]
    return sorted(
        (relative, path)
        for relative, path in files
        if relative.endswith(".py") and not relative.startswith("..") and not _SKIPPED_FOLDERS.intersection(Path(relative).parts)
    )


def _documented_objects(path: Path, module: str) -> Iterator[tuple[str, str]]:
    source = path.read_text(encoding="utf-8", errors="replace")
    if '"""' not in source and "'''" not in source:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes are not our reader's business
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # templates and files for other Pythons
        return
    yield from _walk(tree, module)


def _walk(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, (ast.Module, *_DEFINITIONS)) and (text := ast.get_docstring(node)):
        yield name, text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _DEFINITIONS):
            yield from _walk(child, f"{name}.{child.name}")
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            yield from _attached_docstring(child.value)
        elif isinstance(child, (ast.If, ast.Try, ast.With)):
            yield from _walk(child, name)


def _attached_docstring(call: ast.Call) -> Iterator[tuple[str, str]]:
    """Docstrings that C extensions get by a call, such as ``add_docstr(torch.abs, "...")``."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if function not in _DOCSTRING_CALLS or len(call.args) < 2:
        return
    *names, text = call.args
    while isinstance(text, ast.Call) and isinstance(text.func, ast.Attribute):  # "...".format(...)
        text = text.func.value
    if isinstance(text, ast.Tuple) and text.elts:  # add_newdoc(place, name, (attribute, doc))
        names, text = [*names, text.elts[0]], text.elts[-1]
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        parts = [part.value if isinstance(part, ast.Constant) else ast.unparse(part) for part in names]
        yield ".".join(map(str, parts)), inspect.cleandoc(text.value)
