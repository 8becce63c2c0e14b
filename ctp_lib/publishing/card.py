"""The page of what is published: what it is made from, with its revision, how, what was measured, how to open it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ctp_lib.model import hub, loading
from ctp_lib.recovery import scores
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study


@dataclass(frozen=True)
class About:
    """What is published: of which model at which level, for which ``library``, made by which ``protocol``, in words."""

    settings: Study
    model: str
    level: Level
    title: str
    library: str
    protocol: str


def write(folder: Path, about: About, rows: list[dict[str, Any]], use: str) -> None:
    """Write the folder's README; ``rows`` are those of ``perplexity.csv`` of what is published."""
    spec = about.settings.model(about.model)
    commit = hub.commit(loading.folder(spec))
    tags = ["compress-then-prompt", about.level.family, *(["prompt-tuning"] if about.library == "peft" else [])]
    on_a_hub = None if spec.gguf or (spec.root / spec.source).is_dir() else spec.source
    data = ModelCardData(base_model=on_a_hub, library_name=about.library, pipeline_tag="text-generation", tags=tags)
    origin = f"`{spec.source}`" + (f", revision `{commit or spec.revision}`" if commit or spec.revision else "")
    text = (
        f"---\n{data.to_yaml()}\n---\n# {about.title}\n\nBase model: {origin}, compressed to {about.level}.\n\n## How it was made\n\n"
        f"{about.protocol}\n\n## What was measured\n\nExact perplexity on held-out text, in windows of {rows[0]['window']} tokens: with and "
        f"without a prompt the same tokens are scored.\n\n{_table(about, rows)}\n\n## How to open it\n\n{use}\n"
    )
    ModelCard(text).save(folder / "README.md")


def _table(about: About, rows: list[dict[str, Any]]) -> str:
    """Perplexity by corpus: the uncompressed model, the level by itself, and, where ``rows`` have one, with what was learned."""
    columns = {"uncompressed": _perplexities(about, Level()), str(about.level): _perplexities(about, about.level)}
    if rows[0]["method"] != NONE.name:
        columns[f"{about.level}, with the prompt"] = {row["evaluated_on"]: row["ppl"] for row in rows}
    lines = ["| corpus | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for corpus in (row["evaluated_on"] for row in rows):
        found = " | ".join(f"{column[corpus]:.2f}" for column in columns.values())
        lines.append(f"| {corpus} | {found} |")
    return "\n".join(lines)


def _perplexities(about: About, level: Level) -> dict[str, float]:
    cell = scores.obtain(about.settings, about.model, level, NONE.name)
    return {row["evaluated_on"]: row["ppl"] for row in cell["perplexity"]}
