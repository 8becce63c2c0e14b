"""Methods by name, each read when it is asked for, so that a cell depends on no other.

A method ``x-y`` is the file ``x_y.py`` of its package, which ends in ``METHOD = ...``, or one of ``METHODS`` in one of ``plugins``.
"""

import functools
import importlib
import re
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from ctp_lib.settings.digests import LIBRARY
from ctp_lib.settings.spec import ParameterError, first_line, require

Kind = TypeVar("Kind")


class Registry(Generic[Kind]):
    """The methods of one package of the library, and those of the same ``kind`` in ``plugins``, files from ``root``."""

    def __init__(self, package: str, kind: type[Kind], root: Path = Path(), plugins: Sequence[str] = ()):
        self.package, self.kind, self.plugins = package, kind, [root / plugin for plugin in plugins]

    def names(self) -> list[str]:
        """All of them."""
        own = sorted(path for path in (LIBRARY / self.package).glob("*.py") if _ends_in_a_method(path))
        return [path.stem.replace("_", "-") if self.package == "compression" else path.stem for path in own] + list(self._brought())

    def file(self, name: str) -> Path:
        """Where the method ``name`` is written. Raises :class:`ParameterError` where there is none."""
        if own := self._own(name):
            return own
        if name in (brought := self._brought()):
            return brought[name][0]
        raise ParameterError(f"method {name!r} is unknown; the methods of {self.package} are {', '.join(self.names())}")

    def get(self, name: str) -> Kind:
        """The method ``name``. Raises :class:`ParameterError` where there is none, or its file does not run."""
        path = self.file(name)
        if path.parent == LIBRARY / self.package:
            return importlib.import_module(f"{LIBRARY.name}.{self.package}.{path.stem}").METHOD
        return self._brought()[name][1]

    def _own(self, name: str) -> Path | None:
        """The library's file of that name, if it is a method."""
        path = LIBRARY / self.package / f"{name.replace('-', '_')}.py"
        return path if path.is_file() and _ends_in_a_method(path) else None

    def _brought(self) -> dict[str, tuple[Path, Kind]]:
        found = {}
        for path in self.plugins:
            if not path.is_file():
                raise ParameterError(f"plugins has {path}, which is not there")
            for method in _run(path, path.stat().st_mtime_ns).get("METHODS", []):
                if isinstance(method, self.kind):
                    field, new = f"plugins has {path}, where the name of a method", method.name not in found
                    require(new and not self._own(method.name), field, method.name, "one that no other method has")
                    found[method.name] = (path, method)
        return found


def _ends_in_a_method(path: Path) -> bool:
    return re.search(r"^METHOD\b.* = ", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


@functools.cache
def _run(path: Path, changed: int) -> dict[str, Any]:
    try:
        return runpy.run_path(str(path), run_name=path.stem)
    except Exception as error:
        raise ParameterError(f"plugins has {path}, which does not run: {type(error).__name__}: {first_line(error)}") from error
