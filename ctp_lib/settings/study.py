"""``params.yaml`` and the profile that its last line names, as one checked object.

Everything that a notebook may ask for by name (a model, a level, a corpus) is resolved here, before any work. A wrong
value raises :class:`ParameterError` with one sentence: the field, the value, what is allowed.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML, YAMLError

from ctp_lib.settings import experiments, models
from ctp_lib.settings.compression import CompressionSpec
from ctp_lib.settings.corpora import CorporaSpec
from ctp_lib.settings.learning import RecipeSpec, SoftPromptSpec
from ctp_lib.settings.levels import Level
from ctp_lib.settings.models import ModelSpec
from ctp_lib.settings.spec import SPEC, ParameterError, as_section, each_once, only, require, sentence

MOST_VALUES = 100_000  # in params.yaml; ours has some 2,000
NO_YAML = (YAMLError, RecursionError, ValueError, KeyError)  # the last two for dates, numbers and words that are none
PROMPT = "soft_prompt"
"""The paper's method: every study has it, and its settings are a section of their own."""


@dataclass(**SPEC)
class RunSpec:
    """What the study ``name`` runs over, by name; ``levels`` as people write them."""

    name: Annotated[str, only(re.compile(r"[A-Za-z0-9_-]+").fullmatch, "a name of letters, digits, - and _")]
    models: Annotated[tuple[str, ...], only(each_once, "one model or more, each once")]
    corpora: tuple[str, ...]
    levels: tuple[str, ...]

    def __post_init__(self) -> None:
        once = "full" in self.levels and each_once(self.levels) and len(self.levels) > 1
        require(once, "levels", list(self.levels), "full, which all others are compared with, another level, and each once")
        for level in self.levels:
            Level.parse(level)


@dataclass(**SPEC)
class Study:
    """``params.yaml`` with the profile that it names; ``root`` is the folder it stands in. ``corpora`` are those of the profile.

    ``methods`` are learned at every level, by the names of :mod:`ctp_lib.recovery`, each with its own settings; ``plugins`` are files with
    methods of the reader's own.
    """

    root: Path
    seed: int
    device: Literal["auto", "cpu", "cuda", "mps", "spread"]
    models: Mapping[str, ModelSpec]
    study: RunSpec
    corpora: CorporaSpec
    shipped_models: Mapping[str, experiments.ShippedModelSpec]
    compression: CompressionSpec
    soft_prompt: SoftPromptSpec
    hard_prompt: experiments.HardPromptSpec
    cross_dataset: experiments.CrossDatasetSpec
    cross_compression: experiments.CrossCompressionSpec
    tasks: experiments.TasksSpec
    comparison: experiments.ComparisonSpec
    knowledge: experiments.KnowledgeSpec
    another_model: experiments.AnotherModelSpec
    evaluation: experiments.EvaluationSpec
    margins: experiments.MarginsSpec
    methods: Mapping[str, Mapping[str, Any]]
    recipes: Mapping[str, RecipeSpec] = dataclasses.field(default_factory=dict)
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.models:
            allowed = "a name of letters, digits, dots, slashes, spaces, - and _"
            require(bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/ -]*", name)), "models", name, allowed)
        for name in self.study.models:
            require(name in self.models, "study.models", name, f"a name under models: {', '.join(self.models)}")
        for level in self.compressed:
            group, blocks = level.pattern[1] if level.pattern else 1, self.compression.block_size
            require(blocks % group == 0, "compression.block_size", blocks, f"a multiple of {group} for level {level}")
        usual = f"a section with {PROMPT}, which the paper's claims are about"
        require(PROMPT in self.methods, "methods", list(self.methods), usual)
        for field, values, allowed in self._choices():
            for value in values:
                require(value in allowed, field, value, f"one of {', '.join(map(str, allowed))}")
        documented = self.corpora.sources[self.soft_prompt.corpus].packages is not None
        for name in self.tasks.names:
            allowed = "a task of lm-eval; these are made of documentation, and soft_prompt.corpus is none"
            require(documented or not name.startswith(("documentation_", "function_", "library_")), "tasks.names", name, allowed)
        for name in self.knowledge.relations:
            allowed = "a relation that no documents tell; soft_prompt.corpus is no documentation"
            require(documented or name not in ("function", "library"), "knowledge.relations", name, allowed)
        for name, other in self.knowledge.smaller.items():
            require(name != other, "knowledge.smaller", name, "another model, which is smaller")
        for side, listed in (("model", [pair.model for pair in self.another_model.pairs]), ("other", self.others)):
            require(not listed or each_once(listed), "another_model.pairs", listed, f"each {side} once")
        for section in ("comparison", "knowledge"):
            levels = getattr(self, section).levels
            require("full" in levels and len(levels) > 1, f"{section}.levels", list(levels), "full and a compressed level or more")

    def _choices(self) -> Iterator[tuple[str, Iterable[Any], Iterable[Any]]]:
        """Parameters that choose among what another one lists: their names, their values, and what is listed."""
        for section in ("compression", "soft_prompt"):
            yield f"{section}.corpus", [getattr(self, section).corpus], self.study.corpora
        yield "another_model.pairs", [pair.model for pair in self.another_model.pairs], self.study.models
        yield "another_model.pairs", self.others, self.models
        yield "knowledge.methods", self.knowledge.methods, self.comparison.repairs
        yield "knowledge.smaller", self.knowledge.smaller, self.study.models
        yield "knowledge.smaller", self.knowledge.smaller.values(), self.models
        for section in ("cross_dataset", "tasks", "comparison", "another_model"):
            yield f"{section}.levels", getattr(self, section).levels, self.study.levels
        for section in ("cross_dataset", "cross_compression", "tasks", "comparison"):
            yield f"{section}.seeds", getattr(self, section).seeds, self.soft_prompt.seeds
        for name, repair in self.comparison.repairs.items():
            yield f"comparison.repairs.{name}.seeds", repair.seeds or (), self.soft_prompt.seeds

    @property
    def others(self) -> list[str]:
        """The models that the prompts of another one are taken to."""
        return [name for pair in self.another_model.pairs for name in pair.others]

    @property
    def levels(self) -> list[Level]:
        """The levels that the study runs over, in its order."""
        return [Level.parse(level) for level in self.study.levels]

    @property
    def compressed(self) -> list[Level]:
        """All levels that a model is compressed to: those, what other methods make of it for comparison, and those that are asked for facts."""
        found = [*self.study.levels, *self.comparison.compressors, *self.knowledge.levels]
        return [Level.parse(level) for level in dict.fromkeys(found)]

    @property
    def compared(self) -> list[tuple[Level, str]]:
        """The levels and methods of the comparison of all repairs."""
        levels, repairs = map(Level.parse, self.comparison.levels), self.comparison.repairs
        return [(level, name) for level in levels for name, spec in repairs.items() if spec.full or level.family != "full"]

    @property
    def asked_for_facts(self) -> list[tuple[Level, str]]:
        """The levels and methods that are asked for facts: each level alone, and behind repairs where those are compared."""
        compared, methods = self.compared, self.knowledge.methods
        levels = map(Level.parse, self.knowledge.levels)
        return [(level, name) for level in levels for name in ("none", *(m for m in methods if (level, m) in compared))]

    def prompts_by(self, recipe: str) -> SoftPromptSpec:
        """The study's prompts, learned in another way: by one of ``recipes``."""
        said = {field.name: getattr(self.recipes[recipe], field.name) for field in dataclasses.fields(RecipeSpec)}
        return dataclasses.replace(self.soft_prompt, recipe=recipe, **said)

    def model_called(self, slug: str) -> str:
        """The model whose slug is ``slug``, as the graph passes it on, or ``slug`` itself."""
        return next((name for name in self.models if models.slug(name) == slug), slug)

    def level_called(self, slug: str) -> str:
        """The level whose slug is ``slug``, as the graph passes it on, or ``slug`` itself."""
        return next((str(level) for level in self.compressed if level.slug == slug), slug)

    def model(self, name: str) -> ModelSpec:
        """The model ``name`` of ``params.yaml``, or any folder or hub id that is not listed there."""
        if name in self.models:
            return dataclasses.replace(self.models[name], root=self.root)
        on_hub = "/" in name and not name.endswith(".gguf")
        if not name.strip() or not (on_hub or (self.root / name).exists()):
            raise ParameterError(
                f"model {name!r} is unknown; write one of {', '.join(self.models)}, a folder or GGUF file that exists, or a hub id (owner/name)"
            )
        return ModelSpec(name, root=self.root)


def load(path: Path | None = None, name: str | None = None) -> Study:
    """Read and check ``params.yaml``: the given one, or the nearest in this folder and those above it; its study, or the one called ``name``."""
    path = path or find() / "params.yaml"
    raw = _with_recipe(_with_profile(read(path) | ({"study": name} if name else {})))
    return with_settings(Study, {**raw, "root": str(path.parent.resolve())})


def read(path: Path) -> dict[str, Any]:
    """``params.yaml`` as it is written."""
    yaml = YAML(typ="safe", pure=True)  # YAML 1.2, as DVC reads it: 2:4 is text
    try:
        text = path.read_text(encoding="utf-8")
        many = _written_out(yaml.compose(text), {}) > MOST_VALUES
        raw = {} if many else yaml.load(text)
    except NO_YAML as error:
        raise ParameterError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if many:
        raise ParameterError(f"{path}, with its references written out, would be more than {MOST_VALUES:,} values")
    if not isinstance(raw, dict):
        raise ParameterError(f"{path} is {type(raw).__name__}, not sections with values")
    return raw


def _written_out(node: Any, known: dict[int, float]) -> float:
    """How many values a node of YAML is, with each reference written out; without end where it refers to itself."""
    if not isinstance(getattr(node, "value", None), list):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


def find() -> Path:
    """The project's folder: the nearest with a ``params.yaml``, from the working folder upwards."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").exists():
            return folder
    raise ParameterError(f"no params.yaml in {here} or above it; run from inside the project")


def _with_profile(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` with the sections of the profile that ``study`` names beside the others, and of the corpora those that it names."""
    profiles, name, corpora = as_section(raw.pop("profiles", None), "profiles"), raw.get("study"), raw.get("corpora")
    if name is None:
        return raw
    allowed = f"one of {', '.join(map(str, profiles)) or 'profiles, which has none'}"
    require(isinstance(name, str) and name in profiles, "study", name, allowed)
    require(isinstance(profiles[name], dict), f"profiles.{name}", profiles[name], "sections with values")
    sections = dict(profiles[name])
    run = {"name": name, **{over: sections.pop(over) for over in ("models", "corpora", "levels") if over in sections}}
    named = run.get("corpora")
    if isinstance(corpora, dict) and isinstance(corpora.get("sources"), dict) and isinstance(named, list):
        sources = corpora["sources"]
        for corpus in named:
            known = isinstance(corpus, str) and corpus in sources
            require(known, "study.corpora", corpus, f"one of {', '.join(map(str, sources))}")
        corpora = {**corpora, "sources": {corpus: sources[corpus] for corpus in named}}
    return {**raw, "corpora": corpora, **sections, "study": run}


def _with_recipe(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` with what its recipe says of a prompt and its training, where ``soft_prompt`` does not say it itself."""
    prompt, recipes = raw.get("soft_prompt"), raw.get("recipes")
    if not (isinstance(prompt, dict) and isinstance(recipes, dict) and prompt.get("recipe") is not None):
        return raw
    known = isinstance(prompt["recipe"], str) and prompt["recipe"] in recipes
    require(known, "soft_prompt.recipe", prompt["recipe"], f"one of {', '.join(map(str, recipes))}")
    recipe, own = recipes[prompt["recipe"]], as_section(prompt.get("training"), "soft_prompt.training")
    with_settings(RecipeSpec, recipe, f"recipes.{prompt['recipe']}.")  # what is wrong is said where it stands
    return {**raw, "soft_prompt": {**recipe, **prompt, "training": {**recipe["training"], **own}}}


def with_settings(kind: type, raw: Mapping[str, Any], prefix: str = "") -> Any:
    """``raw`` as the section ``kind``; ``prefix`` says where it stands. Raises :class:`ParameterError` with one sentence."""
    try:  # as JSON, where a list may be a tuple, and nothing else is converted
        return TypeAdapter(kind).validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        raise ParameterError(prefix + sentence(error, lambda path: _names(kind, path))) from None


def _names(kind: Any, path: tuple[str, ...]) -> list[str]:
    """The parameters of the section at ``path`` in ``kind``."""
    schema = section = TypeAdapter(kind).json_schema()
    for part in path:
        section = section.get("properties", {}).get(part) or section["additionalProperties"]  # one by name of several sections
        section = section.get("items", section)
        section = schema["$defs"][section["$ref"].split("/")[-1]] if "$ref" in section else section
    return [name for name in section["properties"] if name != "root"]
