"""One JSON a cell, with its numbers alone; another, under ``costs``, with seconds, memory, machine and commit.

Each has a digest of what it says, and of the files that lie beside it if it speaks for a folder, so that damage is found before it is read.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctp_lib.results.provenance import Cost, provenance
from ctp_lib.settings import digests, paths
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study

DIGEST = "digest"


def write(path: Path, cell: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """Write one cell: ``cell`` says what was asked, ``sections`` what came of it. Returns it as it will be read."""
    found = json.loads(json.dumps({"cell": cell, **sections}, allow_nan=False))
    text = json.dumps(found | {DIGEST: digests.short(found)}, indent=1, ensure_ascii=False)
    with paths.replacing(path) as incoming:
        incoming.write_text(text + "\n", encoding="utf-8")
    return found


def write_manifest(folder: Path, name: str, cell: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """Write the cell ``name`` that speaks for ``folder``, when its other files are there."""
    files = {path.relative_to(folder).as_posix(): digests.content(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    return write(folder / name, cell, **sections, files=files)


def write_cost(settings: Study, goal: Path, cell: dict[str, Any], costs: Sequence[Cost]) -> None:
    """Write what it took to make ``goal``, and where."""
    write(paths.cost_of(settings, goal), cell, cost=[cost.record() for cost in costs], provenance=provenance(settings.root))


def read(path: Path) -> dict[str, Any]:
    """One cell. Raises :class:`ParameterError` when its file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and (said := found.pop(DIGEST, None)) and said != digests.short(found):
            raise ValueError("it is not what was written")
        return found
    except FileNotFoundError:
        raise ParameterError(f"{path} is not there; run `make repro`, or the notebook that makes it") from None
    except ValueError as error:
        raise ParameterError(f"{path} is damaged ({error}); delete it and run `make repro`") from None


def known(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The cell at ``path`` if it was made by ``identity``: the same model, text, settings, code and packages."""
    if not path.exists():
        return None
    found = read(path)
    return found if found.get("identity") == json.loads(json.dumps(identity)) else None


def check_files(path: Path) -> None:
    """Raise :class:`ParameterError` when a file for which the manifest ``path`` speaks is damaged or missing."""
    for name, said in read(path).get("files", {}).items():
        file = path.parent / name
        if digests.content(file) != said:
            raise ParameterError(f"{file} is damaged; delete the folder {path.parent} and run again, which makes it anew")


def rows(cells: Sequence[dict[str, Any]], section: str = "perplexity") -> list[dict[str, Any]]:
    """The rows of one section of all cells, each with its cell's fields where it has none of its own."""
    return [{**cell["cell"], **row} for cell in cells for row in cell.get(section, [])]
