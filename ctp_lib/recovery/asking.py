"""Zero-shot tasks, with and without what repairs: the same items in the same window."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctp_lib.evaluation import llm_kick, tasks
from ctp_lib.evaluation.perplexity import TOKENS_AT_ONCE
from ctp_lib.model import loading
from ctp_lib.recovery.base import Learned
from ctp_lib.recovery.bench import Bench
from ctp_lib.settings import digests, paths
from ctp_lib.settings.study import Study
from ctp_lib.text.documents import documents


def prepare(settings: Study, names: Sequence[str], items: int) -> dict[str, tasks.Item]:
    """Write those of the tasks ``names`` that lm-eval does not have; the first item of each that is made from documentation."""
    corpus, found = settings.soft_prompt.corpus, {}
    for name in names:
        if name in tasks.MAKERS:
            read = documents(paths.corpora(settings), corpus, tasks.MAKERS[name][1])
            found[name] = tasks.write(name, read, _folder(settings, items), items=items, seed=settings.seed)
        elif name in llm_kick.TASKS:
            tasks.write_configuration(llm_kick.TASKS[name], _folder(settings, items))
    return found


def _folder(settings: Study, items: int) -> Path:
    """Of the tasks with so many items: other stages may ask other numbers of them at the same time."""
    return paths.tasks(settings) / str(items)


def own_tasks(settings: Study) -> str | None:
    """A digest of the reader's own tasks, without what reading them leaves in folders such as ``.cache`` and ``__pycache__``."""
    if not settings.tasks.folder:
        return None
    folder = settings.root / settings.tasks.folder
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _in_a_cache(path.relative_to(folder)))
    return digests.short({path.relative_to(folder).as_posix(): digests.content(path) for path in files})


def _in_a_cache(path: Path) -> bool:
    return any(name.lower().rstrip("_").endswith("cache") for name in path.parts[:-1])


def scores(bench: Bench, learned: Learned, names: Sequence[str], items: int) -> list[tasks.TaskScore]:
    """Put ``learned`` on the network and ask ``items`` items of every task, at most."""
    settings = bench.study
    folders = [_folder(settings, items), *([settings.root / settings.tasks.folder] if settings.tasks.folder else [])]
    with learned.on(bench.network) as subject:
        return tasks.evaluate(subject, bench.tokenizer, names, folders, **sizes(bench), limit=items)


def sizes(bench: Bench) -> dict[str, int]:
    """The window of whatever is asked, and the tokens that go through the model together.

    The window is the model's context less the longest prompt of the study, for everything alike: a prompt's positions come on top.
    """
    window = loading.context(bench.network) - bench.study.soft_prompt.prompt_tokens
    return {"max_length": window, "tokens_at_once": TOKENS_AT_ONCE[bench.network.device.type]}


def ask(bench: Bench, learned: Learned, **fields: Any) -> list[dict[str, Any]]:
    """The tasks of the study, asked behind ``learned``: a row a task, by the names of ``tasks.csv``."""
    spec = bench.study.tasks
    found = scores(bench, learned, spec.names, spec.items)
    return [{"level": str(bench.level), "method": learned.method, **fields, **score.record()} for score in found]
