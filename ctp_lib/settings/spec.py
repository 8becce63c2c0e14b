"""How a section of ``params.yaml`` is written down and checked: a pydantic dataclass, and one sentence when a value is wrong."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

SPEC: dict[str, Any] = {"frozen": True, "config": ConfigDict(strict=True, extra="forbid")}
"""``@dataclass(**SPEC)`` makes a section: frozen, nothing converted on the quiet, no names but its own."""


class ParameterError(ValueError):
    """A value in ``params.yaml``, in a parameters cell or in what a reader brings that the study cannot run with."""


NO_ROOM = {
    "No space left on device": "the disk is full", "Disk quota exceeded": "the disk is full for this user",
    "MemoryError": "there is not enough memory", "Cannot allocate memory": "there is not enough memory",
    "out of memory": "there is not enough memory",
}  # fmt: skip
"""What the system and the libraries say."""


def no_room(said: str) -> str | None:
    """Of an error with the name and words ``said``: a sentence, if it comes of a full disk or memory."""
    what = next((ours for theirs, ours in NO_ROOM.items() if theirs in said), None)
    return what and f"{what} ({said.splitlines()[0].rstrip(': ')}); make room and run again, what was finished is kept"


@contextmanager
def one_sentence() -> Iterator[None]:
    """Around a command: what cannot be done, or has no room, ends the program with its sentence on stderr, and 1."""
    try:
        yield
    except ParameterError as error:
        sys.exit(str(error))
    except Exception as error:
        said = no_room(f"{type(error).__name__}: {error}")
        if said is None:
            raise
        sys.exit(said)


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def require(condition: bool, field: str, value: Any, allowed: str) -> None:
    """Raise :class:`ParameterError` with one sentence unless ``condition``."""
    if not condition:
        raise ParameterError(f"{field} is {value!r}; allowed is {allowed}")


def as_section(value: Any, field: str) -> Mapping[str, Any]:
    """``value``, names with values; none of them where nothing is written. Raises :class:`ParameterError` for anything else."""
    require(value is None or isinstance(value, Mapping), field, value, "names with values")
    return value or {}


def only(holds: Callable[[Any], bool], allowed: str) -> AfterValidator:
    """Beside the type of a field: its values are those that ``holds`` is true of, in words what is ``allowed``."""

    def checked(value: Any) -> Any:
        if not holds(value):
            raise PydanticCustomError("not_allowed", "{allowed}", {"allowed": allowed})
        return value

    return AfterValidator(checked)


def each_once(values: Collection[Any]) -> bool:
    """Whether there is a value or more, and none twice."""
    return 0 < len(values) == len(set(values))


Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Window = Annotated[int, Field(ge=2)]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], only(each_once, "one whole number or more, 0 or above, each once")]
"""Each of what is learned is learned once for each."""

ALLOWED = {
    "int_type": "a whole number", "float_type": "a finite number", "finite_number": "a finite number", "string_type": "text",
    "bool_type": "true or false", "tuple_type": "a list", "dict_type": "names with values", "dataclass_type": "a section with values",
    "path_type": "a path",
}  # fmt: skip
BOUNDS = {"greater_than": ("gt", "a number above {}"), "greater_than_equal": ("ge", "{} or more")}


def sentence(error: ValidationError, names: Callable[[tuple[str, ...]], list[str]]) -> str:
    """The first of pydantic's complaints as one sentence of ours; ``names`` gives the parameters that a section may hold."""
    found = error.errors()[0]
    path = tuple(part for part in found["loc"] if isinstance(part, str))
    field, value, kind = ".".join(path), found["input"], found["type"]
    if kind == "value_error":
        inner = str(found["ctx"]["error"])
        return inner if not field or inner.startswith("level ") else f"{field}.{inner}"
    if kind == "missing":
        return f"{field} is missing in params.yaml"
    if kind == "unexpected_keyword_argument":
        return f"{field} is not a parameter; allowed here are {', '.join(names(path[:-1]))}"
    if kind == "literal_error":
        allowed = found["ctx"]["expected"].replace("'", "").replace(", ", " or ")
    elif kind in BOUNDS:
        name, form = BOUNDS[kind]
        allowed = form.format(found["ctx"][name])
    else:
        allowed = ALLOWED.get(kind, found["msg"])
    return f"{field or 'params.yaml'} is {value!r}; allowed is {allowed}"
