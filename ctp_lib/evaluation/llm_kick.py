"""LLM-KICK's own data sets that lm-eval lacks, as its tasks: FreebaseQA, and TriviaQA with the evidence at hand (Jaiswal et al. 2023).

lm-eval has the others by name: ``triviaqa`` (closed book), ``mmlu_...`` (by likelihood) and ``cnn_dailymail_abisee`` (ROUGE). Departures from
the released code: FreebaseQA is asked on its evaluation split. An answer counts where it is what was written, up to a line break, full stop
or comma, by lm-eval's exact match. Summaries are written greedily, and no model judges them. As there, 3,072 characters of evidence are read.
"""

from typing import Any

_ALIASES = (
    "{% set found = [] %}{% for answers in Parses['Answers'] %}{% for names in answers['AnswersName'] %}{% for name in names %}"
    "{% set _ = found.append(name) %}{% endfor %}{% endfor %}{% endfor %}{{ found }}"
)


def _task(name: str, **fields: Any) -> dict[str, Any]:
    written = {"until": ["\n", ".", ","], "do_sample": False, "max_gen_toks": 32}
    exact = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
    return {
        "task": name,
        "output_type": "generate_until",
        "generation_kwargs": written,
        "filter_list": [{"name": "bare", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}],
        "metric_list": [{**exact, "ignore_case": True, "ignore_punctuation": True}],
        "metadata": {"version": 1.0},
        **fields,
    }


TASKS = {
    "freebaseqa": _task(
        "freebaseqa",
        dataset_path="microsoft/freebase_qa",
        dataset_kwargs={"revision": "refs/convert/parquet"},
        test_split="test",  # FreebaseQA-eval
        doc_to_text="Question: {{RawQuestion}}\nAnswer:",
        doc_to_target=_ALIASES,
    ),
    "triviaqa_in_context": _task(
        "triviaqa_in_context",
        dataset_path="mandarjoshi/trivia_qa",
        dataset_name="rc",
        test_split="validation",
        doc_to_text="{{ ((entity_pages.wiki_context[:1] + search_results.search_context[:1]) | join(''))[:3072] }}\n\n"
        "Based on these texts, answer these questions:\n\nQ: {{question}}\nA:",
        doc_to_target="{{answer.aliases}}",
    ),
}
"""By name, in lm-eval's words."""
