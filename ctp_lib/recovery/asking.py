"""Zero-shot tasks, with and without what repairs: the same items in the same window."""

from typing import Any

from ctp_lib.evaluation import tasks
from ctp_lib.evaluation.perplexity import TOKENS_AT_ONCE
from ctp_lib.model import loading
from ctp_lib.recovery.base import Learned
from ctp_lib.recovery.bench import Bench
from ctp_lib.settings import paths
from ctp_lib.settings.study import Study
from ctp_lib.text.documents import documents


def prepare(settings: Study) -> dict[str, tasks.Item]:
    """Write those tasks of the study that are made from documentation; the first item of each."""
    spec, corpus = settings.tasks, settings.soft_prompt.corpus
    found = {}
    for name in spec.names:
        if name in tasks.MAKERS:
            read = documents(paths.corpora(settings), corpus, tasks.MAKERS[name][1])
            found[name] = tasks.write(name, read, paths.tasks(settings), items=spec.items, seed=settings.seed)
    return found


def ask(bench: Bench, learned: Learned, **fields: Any) -> list[dict[str, Any]]:
    """Put ``learned`` on the network and ask every task of the study: a row a task, by the names of ``tasks.csv``.

    The window is the model's context less the longest prompt of the study, for everything alike: a prompt's positions come on top.
    """
    spec = bench.study.tasks
    folders = [paths.tasks(bench.study), *([bench.study.root / spec.folder] if spec.folder else [])]
    window = loading.context(bench.network) - bench.study.soft_prompt.prompt_tokens
    sizes = {"max_length": window, "tokens_at_once": TOKENS_AT_ONCE[bench.network.device.type], "limit": spec.items}
    with learned.on(bench.network) as subject:
        found = tasks.evaluate(subject, bench.tokenizer, spec.names, folders, **sizes)
    return [{"level": str(bench.level), "method": learned.method, **fields, **score.record()} for score in found]
