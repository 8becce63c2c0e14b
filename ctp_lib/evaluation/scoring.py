"""Score a subject on every corpus: the rows of ``perplexity.csv``."""

from collections.abc import Mapping
from typing import Any

from ctp_lib.evaluation.perplexity import bits_per_byte, perplexity_of
from ctp_lib.evaluation.subject import Subject
from ctp_lib.model.teacher import Teacher
from ctp_lib.text.selection import ScoredText


def score(
    subject: Subject,
    texts: Mapping[str, ScoredText],
    teachers: Mapping[str, Teacher] | None = None,
    *,
    method: str,
    trainable_parameters: int | None = None,
    bytes_added: int | None = None,
    **fields: Any,
) -> list[dict[str, Any]]:
    """Score each of ``texts``; one row a corpus, by the names of ``perplexity.csv``, with ``fields`` in each row.

    Where ``teachers`` have one for a corpus, the divergence from it stands in its row as well.

    ``text_digest`` tells which tokens were scored, ``clusters`` which windows share documents.
    ``trainable_parameters`` and ``bytes_added`` are by default those of the subject's
    prompt.
    """
    vectors = 0 if subject.prompt is None else subject.prompt.numel()
    rows = []
    for corpus, text in texts.items():
        result = perplexity_of(subject, text.windows, (teachers or {}).get(corpus))
        rows.append(
            {
                "method": method,
                **({} if subject.prompt is None else {"prompt_kind": "learned"}),
                **fields,
                "evaluated_on": corpus,
                "split": "test",
                **result.record(),
                "bits_per_byte": bits_per_byte(result, text.bytes_per_token),
                "text_digest": text.digest,
                "clusters": text.clusters,
                "trainable_parameters": vectors if trainable_parameters is None else trainable_parameters,
                "bytes_added": 4 * vectors if bytes_added is None else bytes_added,
            }
        )
    return rows
