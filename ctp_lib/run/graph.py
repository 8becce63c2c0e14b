"""``python -m ctp_lib.run.graph [STUDY]``: choose a study, and write its names as paths for ``dvc.yaml``.

DVC reads a dot in a name as a step into a section, and a level such as ``62.5%`` is not a valid file name on every system. So ``graph.yaml``
repeats the names of the study that ``params.yaml`` chooses, as paths.
"""

import argparse
import glob
import re
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ctp_lib.compression import base as compression
from ctp_lib.recovery import base as recovery
from ctp_lib.run import locks
from ctp_lib.settings import models, paths, study
from ctp_lib.settings.levels import Level
from ctp_lib.settings.spec import ParameterError, as_section, one_sentence, require
from ctp_lib.settings.study import Study
from ctp_lib.text import facts

FILE = "graph.yaml"
HEAD = "# The names of the study as paths, which dvc.yaml reads. Made from params.yaml by `make repro`, and by `dvc repro` when it is old.\n"


def graph(settings: Study) -> dict[str, Any]:
    """All that ``dvc.yaml`` runs over. Raises :class:`ParameterError` for a method that is unknown, or cannot do its level or its settings."""
    methods = compression.registry(settings)
    for level in settings.compressed:
        for model in settings.study.models:
            compression.method_for(level, methods).brings(settings.models[model], level)
    for name in settings.methods:
        recovery.settings_of(settings, name)
    recovery.check_repairs(settings)
    for relation in settings.knowledge.relations:
        require(relation in facts.RELATIONS, "knowledge.relations", relation, f"one of {', '.join(facts.RELATIONS)}")
    reads = _reads(settings)
    for field, names in (("models", list(settings.models)), ("files, folders and plugins", reads)):
        differ = len({models.slug(name) for name in names}) == len(names)
        require(differ, field, names, "names that differ in more than slashes and spaces")
    run, compared = settings.study, [Level.parse(level) for level in settings.comparison.levels if level != "full"]
    return {
        "study": run.name,
        "recipe": settings.soft_prompt.recipe or next(iter(settings.recipes)),
        "models": [models.slug(name) for name in run.models],
        "levels": [level.slug for level in settings.levels],
        "compressed": [level.slug for level in settings.compressed],
        "shown": compared[-1].slug,  # looked at closely where one is enough
        "methods": list(settings.methods),
        "repairs": {
            f"{models.slug(model)}-{level.slug}-{method}": {"model": models.slug(model), "level": level.slug, "method": method}
            for model in run.models
            for level, method in settings.compared
        },
        "facts": _facts(settings),
        "calibrated_on": settings.compression.corpus,
        "learned_on": settings.soft_prompt.corpus,
        "pairs": [models.slug(pair.model) for pair in settings.another_model.pairs],
        "reads": {models.slug(path): path for path in reads},
    }


def _facts(settings: Study) -> dict[str, dict[str, str]]:
    """The cells of facts, with the file that each is made ``of``; smaller models are asked as they came."""
    found: dict[str, dict[str, str]] = {}

    def ask(model: str, level: Level, method: str, of: Path) -> None:
        cell = {"model": models.slug(model), "level": level.slug, "method": method}
        found.setdefault("-".join(cell.values()), {**cell, "of": of.relative_to(settings.root).as_posix()})

    for model in settings.study.models:
        for level, method in settings.asked_for_facts:
            alone = paths.compressed(settings, model, level) / "manifest.json"
            ask(model, level, method, alone if method == "none" else paths.comparison(settings, model, level, method))
    for model in settings.knowledge.smaller.values():
        of = settings.root / "data" / settings.study.name / "digests" / "models" / f"{models.slug(model)}.json"
        ask(model, Level(), "none", of)
    return found


def _reads(settings: Study) -> list[str]:
    """Files and folders outside the library that results depend on: the lock, and what the reader brings."""
    asked = [settings.models[name] for name in models_asked(settings)]
    sources = [source for spec in asked for source in (spec.source, *spec.compressed.values())]
    found = ["requirements.txt", *(source for source in sources if (settings.root / source).exists())]
    for pattern in own_texts(settings):
        found.append(without_pattern(pattern))
        require(found[-1] != ".", "corpora.sources: files", pattern, "a path into a folder that holds texts alone")
    return list(dict.fromkeys([*found, *([settings.tasks.folder] if settings.tasks.folder else []), *settings.plugins]))


def models_asked(settings: Study) -> list[str]:
    """The study's models, those that another model's prompt is tried on, and those that are compared as smaller ones, each once."""
    return list(dict.fromkeys([*settings.study.models, *settings.others, *settings.knowledge.smaller.values()]))


def own_texts(settings: Study) -> list[str]:
    """The patterns of the reader's own files of text."""
    own = [corpus.files or {} for corpus in settings.corpora.sources.values() if not corpus.dataset]
    return [pattern for files in own for pattern in files.values()]


def without_pattern(pattern: str) -> str:
    """The folder in which a pattern of files is looked for, or the one file that it is."""
    path = Path(pattern).expanduser()
    while glob.has_magic(str(path)):
        path = path.parent
    return str(path)


def choose(root: Path, name: str) -> None:
    """Write ``name`` into the line of ``params.yaml`` that names the study."""
    path = root / "params.yaml"
    text = path.read_text(encoding="utf-8")
    profiles = as_section(study.read(path).get("profiles"), "profiles")
    require(name in profiles, "STUDY", name, f"one of {', '.join(map(str, profiles)) or 'profiles, which has none'}")
    text, found = re.subn(r"(?m)^study: +[^\s#]+", f"study: {name}", text)
    if not found:
        raise ParameterError(f"params.yaml has no line that begins with study: and a name; write one, such as study: {name}")
    path.write_text(text, encoding="utf-8")


def write(settings: Study) -> bool:
    """Bring ``graph.yaml`` up to date; whether it was not."""
    stream, path = StringIO(), settings.root / FILE
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 130
    yaml.dump({"graph": graph(settings)}, stream)
    text = HEAD + stream.getvalue()
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.write_text(text, encoding="utf-8")
    return True


@one_sentence()
def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ctp_lib.run.graph", description="Choose a study; write its graph.")
    parser.add_argument("study", nargs="?", help="a profile of params.yaml; the one that is chosen there unless said")
    asked = parser.parse_args()
    if asked.study:
        choose(study.find(), asked.study)
    settings = study.load()
    locks.mend(settings.root)
    write(settings)


if __name__ == "__main__":
    main()
