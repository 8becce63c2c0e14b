"""Tasks made from documentation give nothing away; lm-eval scores them as the textbook does, with and without a prompt."""

from __future__ import annotations

import copy
import json
import math
import random
from collections import Counter
from types import SimpleNamespace

import families
import pytest
import small_study
import torch
from conftest import small_model
from lm_eval.models.huggingface import HFLM
from peft import PeftModel
from small_study import WORDS
from tokenizers.processors import TemplateProcessing

from ctp_lib.evaluation import tasks as zero_shot
from ctp_lib.evaluation.stitched_lm import StitchedLM
from ctp_lib.evaluation.subject import Subject, continuation_nll, write_on
from ctp_lib.model import likelihood
from ctp_lib.recovery import asking
from ctp_lib.recovery.soft_prompt import Prompt
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import ParameterError
from ctp_lib.text.documents import Document

MADE = [name for name in zero_shot.MAKERS if name.startswith("documentation_")]

pytestmark = pytest.mark.medium


def documents(number: int) -> list[Document]:
    draw = random.Random(1)
    found = []
    for n in range(number):
        name = f"package{n % 3}.module.zzqx{n}"
        head = f"{draw.choice(WORDS).capitalize()} {' '.join(draw.choices(WORDS, k=7))}."
        body = " ".join(f"{' '.join(draw.choices(WORDS, k=8)).capitalize()}." for _ in range(12))
        found.append(Document(name, f"{head}\n\n{body}"))
    return found


@pytest.mark.parametrize("name", MADE)
def test_every_choice_is_right_once_in_its_four_and_labels_are_even(name):
    items = zero_shot.MAKERS[name][0](documents(400), 0)
    assert len(items) >= 150
    for first in range(0, len(items), 4):
        four = items[first : first + 4]
        assert len({frozenset(item["choices"]) for item in four}) == 1 and len(set(four[0]["choices"])) == 4
        assert {item["choices"][item["label"]] for item in four} == set(four[0]["choices"])
    labels = Counter(item["label"] for item in items)
    assert all(abs(count / len(items) - 0.25) < 0.1 for count in labels.values())


@pytest.mark.parametrize("name", MADE)
def test_a_unigram_model_is_at_chance(name):
    """Whoever looks at the choices alone picks one of each four, and is right exactly once in four items."""
    items = zero_shot.MAKERS[name][0](documents(400), 0)
    counts = Counter(word for item in items for choice in item["choices"] for word in choice.split())
    total = sum(counts.values())

    def likelihood(text: str) -> float:
        return sum(math.log(counts[word] / total) for word in text.split())

    picked = [max(range(4), key=lambda n, item=item: (likelihood(item["choices"][n]), item["choices"][n])) for item in items]
    right = sum(pick == item["label"] for pick, item in zip(picked, items, strict=True)) / len(items)
    assert right == 0.25
    lengths = [max(range(4), key=lambda n, item=item: len(item["choices"][n])) == item["label"] for item in items]
    assert abs(sum(lengths) / len(items) - 0.25) < 0.08


def test_endings_are_equally_long_and_names_do_not_tell():
    for item in zero_shot.continuation(documents(100), 0):
        assert {len(choice) for choice in item["choices"]} == {zero_shot.ENDING}
        assert all(choice[0].isupper() for choice in item["choices"])
    giveaway = [Document(f"numpy.sort{n}", f"Sort the values of array number {n} in place.\n\nbody") for n in range(8)]
    assert zero_shot.recall(giveaway, 0) == []


def test_the_same_seed_gives_the_same_items_and_too_few_are_refused(tmp_path):
    assert zero_shot.recall(documents(60), 3) == zero_shot.recall(documents(60), 3)
    assert zero_shot.recall(documents(60), 3) != zero_shot.recall(documents(60), 4)
    with pytest.raises(ParameterError, match=r"tasks.items is 900; the documents give \d+ of documentation_recall"):
        zero_shot.write("documentation_recall", documents(60), tmp_path, items=900, seed=0)


@pytest.fixture(scope="module")
def network():
    return small_model(context=600)


def log_likelihood(network, tokenizer, before: str, after: str, prompt) -> float:
    """Sum over the tokens of ``after``, one forward pass, no padding, no harness."""
    head = tokenizer(before, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([tokenizer(before + after, add_special_tokens=False)["input_ids"]])
    return -likelihood.token_nll(network, ids, prompt)[0, len(head) - 1 :].sum().item()


@pytest.mark.parametrize("prompted", [False, True], ids=["none", "soft_prompt"])
def test_lm_eval_agrees_with_a_plain_forward_pass(network, tokenizer, tmp_path, prompted):
    vectors = 3 * torch.randn(5, 32, generator=torch.Generator().manual_seed(0)) if prompted else None
    names = [*MADE, "capital_in_context", "capital_counterfactual"]
    for name in names:
        zero_shot.write(name, documents(120), tmp_path, items=12, seed=0)
    scores = zero_shot.evaluate(Subject(network, vectors), tokenizer, names, [tmp_path], max_length=590, tokens_at_once=900)
    for score in scores:
        items = zero_shot.MAKERS[score.task][0](documents(120), 0)[:12]
        for item, correct in zip(items, score.correct, strict=True):
            pairs = [(item["context"], f" {one}") if "context" in item else (one, item["text"]) for one in item["choices"]]
            likelihoods = [log_likelihood(network, tokenizer, *pair, vectors) for pair in pairs]
            assert (likelihoods.index(max(likelihoods)) == item["label"]) == correct
    assert {score.task for score in scores} == set(names)


def test_an_empty_answer_is_said_to_be_empty(network, tokenizer):
    """lm-eval's assertion took it for one that is too long (lm-evaluation-harness#1297)."""
    lm = StitchedLM(Subject(network), tokenizer, max_length=20, tokens_at_once=900)
    with pytest.raises(ParameterError, match="a task has an item with an empty answer; leave it out"):
        lm._loglikelihood_tokens([(("Return the", ""), [5, 6], [])])


@pytest.mark.parametrize(("first", "last"), [(False, True), (True, False), (True, True)])
def test_no_answer_loses_tokens_to_what_a_tokenizer_puts_around_a_text(network, tokenizer, first, last):
    """One that ends every text shifted all answers by a token (transformers#23833)."""
    around, end = copy.deepcopy(tokenizer), tokenizer.eos_token
    template = f"{f'{end} ' if first else ''}$A{f' {end}' if last else ''}"
    around.backend_tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=[(end, tokenizer.eos_token_id)])
    lm = StitchedLM(Subject(network), around, max_length=590, tokens_at_once=900)
    context, answer = lm._encode_pair("Return the sum", " of the elements.")
    plain = tokenizer("Return the sum of the elements.", add_special_tokens=False)["input_ids"]
    assert context + answer == [tokenizer.eos_token_id] * first + plain and tokenizer.decode(answer) == " of the elements."


def requests(window: int) -> list[tuple[tuple[str, str], list[int], list[int]]]:
    """Items with four answers, two, one; contexts of many lengths, of one token, of more than the window; two alike."""
    draw = random.Random(0)
    contexts = [[draw.randrange(300) for _ in range(length)] for length in (30, 1, 7, 31, 2, window + 9, 30, 12, 33)]
    answers = [4, 4, 1, 2, 1, 4, 4, 1, 4]
    found = [
        (before, [draw.randrange(300) for _ in range(draw.randint(1, 9))])
        for before, number in zip(contexts, answers, strict=True)
        for _ in range(number)
    ]
    found.append(found[0])
    return [((str(number), ""), *request) for number, request in enumerate(found)]


@pytest.mark.parametrize("at_once", [1, 300, 5000])
@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_prompt_computed_once_scores_as_lm_eval_behind_peft(family, at_once, tokenizer, tmp_path):
    network, window = families.model(family), 60
    vectors = (
        network.get_input_embeddings()(torch.arange(11, 16)).detach()
        + 0.3 * torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
        if family != "opt"
        else torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    )
    Prompt(vectors).save(tmp_path, ModelSpec("m"), network)
    asked = requests(window)
    lm = StitchedLM(Subject(network, vectors), tokenizer, max_length=window, tokens_at_once=at_once)
    found = lm._loglikelihood_tokens(asked, disable_tqdm=True)
    assert found == lm._loglikelihood_tokens(asked, disable_tqdm=True), "the prompt's cache must be as it was"
    peer = HFLM(
        PeftModel.from_pretrained(network, tmp_path), tokenizer=tokenizer, batch_size=4, max_length=window, backend="causal"
    )
    for (nll, greedy), (theirs, likeliest) in zip(found, peer._loglikelihood_tokens(asked, disable_tqdm=True), strict=True):
        assert nll == pytest.approx(theirs, abs=1e-4) and greedy == likeliest


@pytest.mark.parametrize("at_once", [200, 4000], ids=["few at once", "all at once"])
def test_a_passage_that_questions_share_is_read_once_and_changes_nothing(network, tokenizer, at_once, monkeypatch):
    draw, requests, read = random.Random(0), [], []
    for _ in range(3):
        passage = draw.choices(range(3, 300), k=60)
        requests += [(("", ""), passage + draw.choices(range(3, 300), k=k), draw.choices(range(3, 300), k=4)) for k in (0, 5, 9, 9)]
    draw.shuffle(requests)
    decoder = network.get_decoder()
    handle = decoder.register_forward_pre_hook(lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True)
    lm = StitchedLM(Subject(network), tokenizer, max_length=100, tokens_at_once=at_once)
    found = lm._loglikelihood_tokens(requests, disable_tqdm=True)
    handle.remove()
    assert sum(read) < 0.6 * sum(len(context) + len(answer) for _, context, answer in requests)
    for (nats, greedy), (_, context, answer) in zip(found, requests, strict=True):
        with torch.inference_mode():
            logits = network(torch.tensor([context + answer])).logits[0, len(context) - 1 : -1].double().log_softmax(1)
        assert nats == pytest.approx(logits.gather(1, torch.tensor(answer)[:, None]).sum().item(), abs=1e-3)
        assert greedy == (logits.argmax(1).tolist() == answer)


def test_a_task_of_ones_own_is_asked(network, tokenizer, tmp_path):
    small_study.write_task(tmp_path, ["sum", "axis"])
    (score,) = zero_shot.evaluate(
        Subject(network), tokenizer, ["mine"], [tmp_path / "not there", tmp_path], max_length=64, tokens_at_once=99
    )
    ends = [log_likelihood(network, tokenizer, "Return the", end, None) for end in (" sum", " axis")]
    assert score.correct == tuple(number % 2 == ends.index(max(ends)) for number in range(8))
    assert score.chance == 0.5, "two choices"


def test_an_unknown_task_and_too_small_a_window_are_refused(network, tokenizer, tmp_path):
    zero_shot.write("documentation_summary", documents(120), tmp_path, items=4, seed=0)
    with pytest.raises(ParameterError, match="longer than the window of 20 tokens"):
        zero_shot.evaluate(Subject(network), tokenizer, ["documentation_summary"], [tmp_path], max_length=20, tokens_at_once=99)
    with pytest.raises(ParameterError, match="'hellasway', which lm-eval does not know"):
        zero_shot.evaluate(Subject(network), tokenizer, ["hellasway"], [tmp_path], max_length=20, tokens_at_once=99)


WRITING = """task: writing
dataset_path: json
dataset_kwargs: {{data_files: {{test: {items}}}, cache_dir: {cache}}}
test_split: test
output_type: generate_until
doc_to_text: question
doc_to_target: "{{{{answers}}}}"
generation_kwargs: {{until: ["."], max_gen_toks: 5, do_sample: {draws}}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""


def writing(folder, answers: list[list[str]], draws: str = "false"):
    """A task that is answered by writing: questions by number, each with the texts that count as right."""
    items = [{"question": f"Return the {WORDS[number]}", "answers": right} for number, right in enumerate(answers)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "writing.yaml").write_text(WRITING.format(items=folder / "items.jsonl", cache=folder / "cache", draws=draws))


@pytest.mark.parametrize("prompted", [False, True])
def test_a_task_that_writes_is_right_where_the_written_text_is(network, tokenizer, tmp_path, prompted):
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(0)) if prompted else None
    subject = Subject(network, vectors)
    written = [
        write_on(subject, tokenizer, torch.tensor(tokenizer.encode(f"Return the {WORDS[number]}")), 5).partition(".")[0]
        for number in range(4)
    ]
    writing(tmp_path, [["nothing", written[0]], ["nothing"], [written[2]], [f"{written[3]} more"]])
    (score,) = zero_shot.evaluate(subject, tokenizer, ["writing"], [tmp_path], max_length=64, tokens_at_once=99)
    assert score.correct == (1, 0, 1, 0) and score.metric == "exact_match" and score.chance == 0 and score.value == 0.5


def test_without_a_prompt_it_writes_as_lm_eval_does(network, tokenizer):
    requests = [SimpleNamespace(args=(f"Return the {word}", {"until": ["zz"], "max_gen_toks": 6})) for word in WORDS[:5]]
    ours = StitchedLM(Subject(network), tokenizer, max_length=64, tokens_at_once=99).generate_until(requests, disable_tqdm=True)
    theirs = HFLM(network, tokenizer=tokenizer, max_length=64, backend="causal").generate_until(requests, disable_tqdm=True)
    assert ours == theirs


def test_a_task_that_draws_its_tokens_is_refused(network, tokenizer, tmp_path):
    writing(tmp_path, [["a"]] * 4, draws="true")
    with pytest.raises(ParameterError, match="a task draws the tokens that it writes"):
        zero_shot.evaluate(Subject(network), tokenizer, ["writing"], [tmp_path], max_length=64, tokens_at_once=99)


def test_the_metric_of_a_summary_is_a_share_and_one_that_nobody_knows_is_refused():
    samples = [{"doc_id": number, "rougeL": share, "arguments": [1], "target": "text"} for number, share in enumerate((0.25, 0.75))]
    score = zero_shot._score("cnn_dailymail", samples)
    assert (score.metric, score.value, score.chance) == ("rougeL", 0.5, 0)
    with pytest.raises(ParameterError, match="'t', which has none of these metrics: acc_norm, acc, exact_match, rougeL"):
        zero_shot._score("t", [{"doc_id": 0, "bleu": 1.0}])


def test_a_metric_that_is_no_yes_or_no_is_refused():
    samples = [{"doc_id": number, "acc": share, "arguments": [1, 2], "target": 0} for number, share in enumerate((1.0, 0.4))]
    with pytest.raises(ParameterError, match="'truthfulqa_mc2', whose acc is 0.4 on an item; take tasks that are right or wrong"):
        zero_shot._score("truthfulqa_mc2", samples)
    assert zero_shot._score("piqa", [{**sample, "acc": 1.0} for sample in samples]).correct == (True, True)


def test_scores_by_hand():
    score = zero_shot.TaskScore("t", "acc", (True, True, False, False, True, True, True, True), unit=4)
    assert score.units == (0.5, 1.0) and score.value == 0.75 and score.stderr == pytest.approx(0.25)


@pytest.mark.parametrize(("items", "unit"), [(1, 1), (3, 4)])
def test_too_few_items_for_an_error_are_said(items, unit):
    with pytest.raises(ParameterError, match=rf"too few items \({items}\); its standard error takes {unit + 1} or more"):
        zero_shot.TaskScore("mine", "acc", (True,) * items, unit).record()


@pytest.mark.parametrize(
    ("name", "counts"),
    [(".cache/a", False), ("json_cache/a", False), ("__pycache__/a", False), ("cached.jsonl", True), ("cached/a", True)],
)
def test_a_file_of_ones_own_tasks_counts_unless_it_lies_in_a_cache(tmp_path, name, counts):
    settings = SimpleNamespace(root=tmp_path, tasks=SimpleNamespace(folder="tasks"))
    small_study.write_task(tmp_path / "tasks", ["sum", "axis"])
    before, path = asking.own_tasks(settings), tmp_path / "tasks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("new")
    assert (asking.own_tasks(settings) != before) == counts


def test_a_continuation_is_scored_by_its_own_tokens_alone(network):
    items = torch.randint(300, (40, 12), generator=torch.Generator().manual_seed(0))
    prompt = torch.randn(3, 32)
    found = continuation_nll(Subject(network, prompt), items, 5)
    assert torch.allclose(found, likelihood.token_nll(network, items, prompt)[:, -5:].double().mean(1))


def test_what_a_model_writes_is_the_likeliest_token_each_time(network, tokenizer):
    context, prompt = torch.tensor([5, 6, 7]), torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    table, ids = network.get_input_embeddings().weight, []
    for _ in range(6):
        seen = torch.cat([prompt, table[context], table[torch.tensor(ids, dtype=torch.long)]])
        ids.append(network(inputs_embeds=seen[None]).logits[0, -1].argmax().item())
        if ids[-1] == tokenizer.eos_token_id:
            break
    assert write_on(Subject(network, prompt), tokenizer, context, 6) == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"question": None}, "cannot be asked: AssertionError: Context is not a string"),
        ({"options": []}, "cannot be asked"),
        ({"options": ["a", None]}, "cannot be asked"),
        ({"right": 5}, "cannot be asked"),
        ({"right": -1}, "item 0 of mine: its right answer is -1, and it has 2"),
        ({"right": True}, "its right answer is True"),
        ({"right": "none of them"}, "right answer is none of its answers"),
    ],
    ids=str,
)
def test_an_item_that_has_no_right_answer_is_refused(tmp_path, changed, said):
    small_study.write_task(tmp_path, ["axis", "array"])
    row = {"question": "Return the", "options": ["axis", "array"], "right": 0} | changed
    (tmp_path / "items.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ParameterError, match=said):
        zero_shot.evaluate(
            Subject(families.model("opt")), families.tokenizer("opt"), ["mine"], [tmp_path], max_length=64, tokens_at_once=256
        )
