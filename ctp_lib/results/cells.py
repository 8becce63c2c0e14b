"""One JSON a cell, with its numbers alone; another, under ``costs``, with seconds, memory, machine and commit."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctp_lib.results.provenance import Cost, provenance
from ctp_lib.settings import paths
from ctp_lib.settings.spec import ParameterError
from ctp_lib.settings.study import Study


def write(path: Path, cell: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """Write one cell: ``cell`` says what was asked, ``sections`` what came of it. Returns it as it will be read."""
    text = json.dumps({"cell": cell, **sections}, indent=1, ensure_ascii=False, allow_nan=False)
    with paths.replacing(path) as incoming:
        incoming.write_text(text + "\n", encoding="utf-8")
    return json.loads(text)


def write_cost(settings: Study, goal: Path, cell: dict[str, Any], costs: Sequence[Cost]) -> None:
    """Write what it took to make ``goal``, and where."""
    write(paths.cost_of(settings, goal), cell, cost=[cost.record() for cost in costs], provenance=provenance(settings.root))


def read(path: Path) -> dict[str, Any]:
    """One cell. Raises :class:`ParameterError` when its file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path} is not there; run `make repro`, or the notebook that makes it") from None
    except json.JSONDecodeError as error:
        raise ParameterError(f"{path} is damaged ({error}); delete it and run `make repro`") from None


def known(path: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The cell at ``path`` if it was made by ``identity``: the same model, text, settings, code and packages."""
    if not path.exists():
        return None
    found = read(path)
    return found if found.get("identity") == json.loads(json.dumps(identity)) else None


def rows(cells: Sequence[dict[str, Any]], section: str = "perplexity") -> list[dict[str, Any]]:
    """The rows of one section of all cells, each with its cell's fields where it has none of its own."""
    return [{**cell["cell"], **row} for cell in cells for row in cell.get(section, [])]
