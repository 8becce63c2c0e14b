"""Run one notebook as one cell of the study: ``python -m ctp_lib.run.cell notebooks/02_compression.py -p level 4bit``.

The ``.py`` file is the notebook's source. Parameters are checked against its cell tagged ``parameters`` and against ``params.yaml`` before
anything starts. The executed copy goes to ``results/<study>/runs/``, named after what was given, without times that make equal runs differ.
"""

import argparse
import ast
import contextlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from ruamel.yaml import YAML

from ctp_lib.compression.base import method_for, registry
from ctp_lib.settings import digests, models, paths, study
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError, no_room, one_sentence
from ctp_lib.settings.study import Study

PARAMETERS = "parameters"
KNOWN = {"model": Study.model_called, "level": Study.level_called}
"""Parameters that the graph gives as paths."""
LONGEST = 200
"""Letters of a copy's name, at most; systems take 255 bytes, and ``.ipynb.incoming`` comes behind."""


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 when the notebook ran, 1 with one sentence on stderr when it did not."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.run.cell", description="Run one notebook of the study.")
    parser.add_argument("notebook", type=Path, help="its source, notebooks/<name>.py")
    parser.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    asked = parser.parse_args(arguments)
    try:
        return run(asked.notebook, dict(asked.parameters))
    except ParameterError as error:
        print(f"{asked.notebook.name}: {error}", file=sys.stderr)
        return 1


def run(source: Path, given: dict[str, str]) -> int:
    """Check ``given`` parameters, execute the notebook with them, keep the executed copy."""
    settings = study.load()
    if not source.exists():
        there = sorted(path.name for path in Path("notebooks").glob("*.py"))
        raise ParameterError(f"{source} is not there; the notebooks are {', '.join(there)}")
    notebook = jupytext.read(source)
    parameters = check_parameters(given, parameter_cell(notebook), settings)
    slugs = [Level.parse(value).slug if name == "level" else models.slug(str(value)) for name, value in parameters.items()]
    cell = "-".join(slugs) or "all"
    cell = cell if len(cell) <= LONGEST else f"{cell[: LONGEST - 20]}-{digests.short(cell)}"
    target = paths.results(settings) / "runs" / source.stem / f"{cell}.ipynb"
    return _execute(notebook, parameters, target, settings.root)


def parameter_cell(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """Names and default values in the cell tagged ``parameters``, which holds plain assignments of literals only."""
    for cell in notebook.cells:
        if PARAMETERS in cell.metadata.get("tags", []):
            body = ast.parse(cell.source).body
            return {node.targets[0].id: ast.literal_eval(node.value) for node in body if isinstance(node, ast.Assign)}
    return {}


def check_parameters(given: dict[str, str], defaults: dict[str, Any], settings: Study) -> dict[str, Any]:
    """``given`` as values of the types of ``defaults``. Raises :class:`ParameterError` for a wrong name or value."""
    parameters = {}
    for name, text in given.items():
        if name not in defaults:
            raise ParameterError(f"{name} is not a parameter of this notebook; it has {', '.join(defaults) or 'none'}")
        text = KNOWN[name](settings, text) if name in KNOWN else text
        try:
            value = text if isinstance(defaults[name], str) else YAML(typ="safe", pure=True).load(text)
        except study.NO_YAML as error:
            value = error  # refused as any other value of the wrong type is
        if type(value) is not type(defaults[name]):
            raise ParameterError(f"{name} is {text!r}; allowed is a value like {defaults[name]!r}")
        parameters[name] = value
    asked = {**defaults, **parameters}
    if "model" in asked:
        settings.model(asked["model"])
    if "level" in asked:
        method_for(Level.parse(asked["level"]), registry(settings))
    return parameters


def _execute(notebook: nbformat.NotebookNode, parameters: dict[str, Any], target: Path, root: Path) -> int:
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    scratch = Path(tempfile.mkdtemp(prefix="ctp-"))  # with the sockets of this kernel alone, whatever else runs here
    copy = scratch / target.name
    try:
        nbformat.write(notebook, copy)
        papermill.execute_notebook(
            copy, copy, parameters, kernel_name="python3", cwd=root, log_output=False, progress_bar=False,
            stdout_file=sys.stdout, stderr_file=sys.stderr, config=Config(KernelManager={"transport": "ipc", "ip": f"{scratch}/kernel"}),
        )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        said = f"{error.ename}: {error.evalue}"
        print(no_room(said) or f"{said}\nthe notebook with its traceback is {target.relative_to(root)}", file=sys.stderr)
        return 1
    except DeadKernelError:
        print(
            "the notebook's process was ended from outside, as systems do when memory is short; run again, it goes on",
            file=sys.stderr,
        )
        return 1
    finally:
        with contextlib.suppress(ValueError):  # of a copy that is torn, since there is no room for it
            executed = nbformat.read(copy, as_version=4)
            _strip_times(executed)
            with paths.replacing(target) as incoming:
                nbformat.write(executed, incoming)
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def _strip_times(notebook: nbformat.NotebookNode) -> None:
    """Drop papermill's times and, where all went well, the bars with their rates, and number the cells: equal runs, equal copies."""
    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code" and not any(output.output_type == "error" for output in cell.outputs):
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main())
