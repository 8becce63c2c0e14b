"""LLM-KICK's data sets as lm-eval's tasks: what is asked and what counts as right, on rows of the published form."""

from __future__ import annotations

import json

import pytest
from conftest import small_model
from lm_eval.tasks import TaskManager

from ctp_lib.evaluation import llm_kick, tasks
from ctp_lib.evaluation.stitched_lm import StitchedLM
from ctp_lib.evaluation.subject import Subject

ROWS = {
    "freebaseqa": {
        "Question-ID": "FreebaseQA-eval-0",
        "RawQuestion": "Who was President of France in 1960?",
        "Parses": {
            "Parse-Id": ["P0", "P1"],
            "Answers": [
                {"AnswersMid": ["m1"], "AnswersName": [["charles de gaulle"]]},
                {"AnswersMid": ["m2"], "AnswersName": [["general de gaulle", "de gaulle"]]},
            ],
        },
    },
    "triviaqa_in_context": {
        "question": "Which city is the capital of France?",
        "search_results": {"search_context": ["x" * 3000, "no more"]},
        "entity_pages": {"wiki_context": ["Paris is the capital. " * 50, "no more"]},
        "answer": {"aliases": ["Paris", "City of Light"]},
    },
}


def of_files(name: str, folder):
    """The task, read from a file of one row in place of the hub."""
    (folder / "row.jsonl").write_text(json.dumps(ROWS[name]) + "\n")
    own = llm_kick.TASKS[name] | {"dataset_path": "json", "test_split": "test"}
    own |= {"dataset_kwargs": {"data_files": {"test": str(folder / "row.jsonl")}, "cache_dir": str(folder / "cache")}}
    own.pop("dataset_name", None)
    return own


@pytest.fixture
def local(tmp_path, monkeypatch):
    def made(name: str):
        monkeypatch.setitem(llm_kick.TASKS, name, of_files(name, tmp_path))
        tasks.write_configuration(llm_kick.TASKS[name], tmp_path)
        manager = TaskManager(include_path=[str(tmp_path)], include_defaults=False)
        return tmp_path, manager.load_task_or_group(name)[name]

    return made


def test_freebaseqa_takes_every_name_of_every_answer(local):
    _, task = local("freebaseqa")
    (row,) = task.test_docs()
    assert task.doc_to_text(row) == "Question: Who was President of France in 1960?\nAnswer:"
    assert task.doc_to_target(row) == ["charles de gaulle", "general de gaulle", "de gaulle"]


def test_triviaqa_is_read_with_3072_characters_of_evidence(local):
    _, task = local("triviaqa_in_context")
    (row,) = task.test_docs()
    evidence, _, question = task.doc_to_text(row).partition("\n\n")
    assert evidence == ("Paris is the capital. " * 50 + "x" * 3000)[:3072], "the first page of each, and no other"
    assert question == "Based on these texts, answer these questions:\n\nQ: Which city is the capital of France?\nA:"
    assert task.doc_to_target(row) == ["Paris", "City of Light"]


@pytest.mark.medium
@pytest.mark.parametrize(("text", "right"), [(" De Gaulle. He was", 1.0), (" Mitterrand", 0.0), ("", 0.0)])
def test_an_answer_is_right_where_it_is_one_of_the_names(local, tokenizer, monkeypatch, text, right):
    folder, _ = local("freebaseqa")
    monkeypatch.setattr(StitchedLM, "write", lambda *_: text)
    (score,) = tasks.evaluate(Subject(small_model()), tokenizer, ["freebaseqa"], [folder], max_length=64, tokens_at_once=99)
    assert (score.metric, score.correct, score.chance) == ("exact_match", (right,), 0.0)
