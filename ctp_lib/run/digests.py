"""``python -m ctp_lib.run.digests``: a file for each thing that stages depend on, so that an edit runs what it touches and nothing else.

``compress/<level>``, ``learn/<method>``, ``score/<method>``, ``repair/<method>``, ``facts/<method>`` and ``notebooks/<name>`` hold the digests
of their code and the versions of the packages that compute; ``models/<name>`` and ``corpora`` what was brought. Stages depend on these, never
on a folder of code or on the lock.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ctp_lib.compression import base as compression
from ctp_lib.recovery import base as recovery
from ctp_lib.run import graph
from ctp_lib.settings import digests, models, paths, study
from ctp_lib.settings.digests import LIBRARY
from ctp_lib.settings.spec import ParameterError, one_sentence
from ctp_lib.settings.study import Study
from ctp_lib.text import docstrings

SHARED = {
    "compress": ("compression/saved.py", "compression/reached.py"),
    "learn": ("recovery/bench.py",),
    "score": ("recovery/scores.py",),
    "repair": ("recovery/comparison.py",),
    "facts": ("recovery/knowing.py",),
}
"""What all methods share, by stage."""


def collect(settings: Study) -> dict[str, dict[str, Any]]:
    """Every digest by its path."""
    found = {f"models/{models.slug(name)}": _model(settings, name) for name in graph.models_asked(settings)}
    for level in settings.compressed:
        own = compression.registry(settings).file(level.method), settings.root / "notebooks/02_compression.py"
        found[f"compress/{level.slug}"] = {"level": asdict(level), **_code("compress", *own)}
    found["score/none"] = _code("score", recovery.registry(settings).file("none"))
    facts = {key: value for key, value in asdict(settings.knowledge).items() if key not in ("levels", "methods", "smaller")}
    found["facts/none"] = facts | _code("facts", recovery.registry(settings).file("none"))
    for name in settings.methods:
        learned = _learned(settings, name)
        found[f"score/{name}"] = learned | _code("score", recovery.registry(settings).file(name))
        found[f"learn/{name}"] = learned | _code("learn", settings.root / "notebooks/03_soft_prompt.py")
    for name, repair in settings.comparison.repairs.items():
        own = {"repair": asdict(repair), "seeds": settings.comparison.seeds, "further_rates": settings.comparison.further_rates}
        found[f"repair/{name}"] = own | _code("repair", recovery.registry(settings).file(name))
        found[f"facts/{name}"] = facts | _code("facts", recovery.registry(settings).file(name))
    for path in sorted((settings.root / "notebooks").glob("[0-9]*.py")):
        found[f"notebooks/{path.stem}"] = _notebook(settings, path)
    found["preflight"] = digests.code([LIBRARY / "machine/preflight.py"])
    packages = [package for source in settings.corpora.sources.values() for package in source.packages or ()]
    found["corpora"] = digests.code([LIBRARY / "text/corpora.py"]) | {
        "read_from": {name: docstrings.installed_version(name) for name in packages},
        "files": {text: digests.content(settings.root / graph.without_pattern(text)) for text in graph.own_texts(settings)},
    }
    found["tasks"] = {"folder": digests.content(settings.root / settings.tasks.folder) if settings.tasks.folder else None}
    return found


def _model(settings: Study, name: str) -> dict[str, Any]:
    spec = settings.models[name]
    local = settings.root / spec.source
    content = digests.content(local) if local.exists() else spec.sha256
    brought = {name: (source, digests.content(settings.root / source)) for name, source in spec.compressed.items()}
    return {"source": spec.source, "revision": spec.revision, "dtype": spec.dtype, "content": content, "compressed": brought}


def _learned(settings: Study, name: str) -> dict[str, Any]:
    """A method's settings, wherever they come from, its code, and the same of those it learns from."""
    registry = recovery.registry(settings)
    found = {"own_settings": recovery.settings_of(settings, name), "own_code": digests.code([registry.file(name)])}
    others = registry.get(name).others if name != study.PROMPT else ()
    return found | {"others": {other: _learned(settings, other) for other in others}}


def _code(stage: str, *own: Path) -> dict[str, Any]:
    return digests.code([*own, *(LIBRARY / path for path in SHARED[stage])])


def _notebook(settings: Study, path: Path) -> dict[str, Any]:
    """A question's code, and that of the study's methods where it asks about them."""
    alone = digests.code([path])
    if "recovery/bench.py" not in alone["modules"]:
        return alone
    asked = settings.comparison.repairs if "recovery/comparison.py" in alone["modules"] else settings.methods
    return digests.code([path, *(recovery.registry(settings).file(name) for name in asked)])


def write(settings: Study) -> None:
    """Write all of them into ``data/<study>/digests``."""
    with paths.replacing(settings.root / "data" / settings.study.name / "digests") as folder:
        for name, found in collect(settings).items():
            path = folder / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@one_sentence()
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.run.digests", description="Digests that the stages depend on.")
    parser.add_argument("--of", type=Path, help="a file or folder outside the library, alone")
    parser.add_argument("--into", type=Path, help="where its digest goes")
    asked = parser.parse_args()
    if asked.of:
        asked.into.parent.mkdir(parents=True, exist_ok=True)
        asked.into.write_text(digests.content(asked.of.expanduser()) + "\n", encoding="utf-8")
        return
    settings = study.load()
    if graph.write(settings):
        said = "params.yaml asks for other stages than graph.yaml had; graph.yaml is written anew, so type the same once more"
        raise ParameterError(said)
    write(settings)


if __name__ == "__main__":
    main()
