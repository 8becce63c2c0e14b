"""Answers as LLM-KICK's released code counts them (Jaiswal et al. 2023; VITA-Group/llm-kick), and the same answers counted exactly.

Three of its rules count something beside the answer:

* factoid questions: an answer anywhere in what was decoded, *the prompt included*, letter case and spaces aside; the matches of N + 1
  questions are divided by N;
* questions about a passage: the answer in the text counts, *and so does the text in the answer*: a model that writes nothing is always right;
* multiple choice: the last letter of one written token. A model that writes anything else is wrong, so it can fall below chance.
"""

import re
import string
from collections.abc import Sequence


def factoid(decoded: Sequence[str], answers: Sequence[str]) -> float:
    """The released accuracy over N + 1 questions; ``decoded`` are prompts with what was written behind them."""
    found = [_squeezed(answer) in _squeezed(text) for text, answer in zip(decoded, answers, strict=True)]
    return sum(found) / (len(found) - 1)


def retrieval(texts: Sequence[str], answers: Sequence[str]) -> float:
    """The released "exact match"; ``texts`` are what was written, up to the end of the line."""
    pairs = [(normalised(text.partition("\n")[0]), normalised(answer)) for text, answer in zip(texts, answers, strict=True)]
    return sum(text in answer or answer in text for text, answer in pairs) / len(pairs)


def letters(tokens: Sequence[str], right: Sequence[str]) -> float:
    """The released accuracy of multiple choice; ``tokens`` are single written tokens, ``right`` letters."""
    return sum(token.strip()[-1:] == letter for token, letter in zip(tokens, right, strict=True)) / len(tokens)


def exact(texts: Sequence[str], answers: Sequence[str]) -> float:
    """The share of texts whose first sentence or line ends in the answer: the answer alone, or a whole sentence that gives it."""
    firsts = [re.split(r"[\n.,;(]", text, maxsplit=1)[0] for text in texts]
    pairs = [(f" {normalised(text)}", f" {normalised(answer)}") for text, answer in zip(firsts, answers, strict=True)]
    return sum(text.endswith(answer) for text, answer in pairs) / len(texts)


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and double spaces, as TriviaQA's own evaluation compares answers."""
    bare = "".join(" " if letter in string.punctuation + "‘’´`" else letter for letter in text.lower())
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _squeezed(text: str) -> str:
    return text.strip().replace(" ", "").lower()
