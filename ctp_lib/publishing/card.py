"""What is published: a folder, and its page: what it is made from, with its revision, how, what was measured, how to open it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from ctp_lib.model import hub, loading
from ctp_lib.recovery import scores
from ctp_lib.recovery.none import METHOD as NONE
from ctp_lib.settings import models, paths
from ctp_lib.settings.levels import Level
from ctp_lib.settings.study import Study


@dataclass(frozen=True)
class Page:
    """Of a ``model`` at a ``level``, for a ``library``: how it was made and is opened, in words, and its ``rows`` of ``perplexity.csv``."""

    settings: Study
    model: str
    level: Level
    kind: str
    title: str
    library: str
    protocol: str
    use: str
    rows: list[dict[str, Any]]

    @property
    def goal(self) -> Path:
        """The folder that is published."""
        return self.settings.root / "published" / f"{models.slug(self.model)}-{self.level.slug}{self.kind}"

    @contextmanager
    def published(self) -> Iterator[Path]:
        """An empty folder, which becomes :attr:`goal`, with this page as its README, when what belongs into it is there."""
        with paths.replacing(self.goal) as folder:
            folder.mkdir()
            yield folder
            ModelCard(self._text()).save(folder / "README.md")

    def _text(self) -> str:
        spec = self.settings.model(self.model)
        commit = hub.commit(loading.folder(spec))
        tags = ["compress-then-prompt", self.level.family, *(["prompt-tuning"] if self.library == "peft" else [])]
        on_a_hub = None if spec.gguf or (spec.root / spec.source).is_dir() else spec.source
        data = ModelCardData(base_model=on_a_hub, library_name=self.library, pipeline_tag="text-generation", tags=tags)
        origin = f"`{spec.source}`" + (f", revision `{commit or spec.revision}`" if commit or spec.revision else "")
        return (
            f"---\n{data.to_yaml()}\n---\n# {self.title}\n\nBase model: {origin}, compressed to {self.level}.\n\n## How it was made\n\n"
            f"{self.protocol}\n\n## What was measured\n\nExact perplexity on held-out text, in windows of {self.rows[0]['window']} tokens: "
            f"with and without a prompt the same tokens are scored.\n\n{self._table()}\n\n## How to open it\n\n{self.use}\n"
        )

    def _table(self) -> str:
        """Perplexity by corpus: the uncompressed model, the level by itself, and, where the rows have one, with what was learned."""
        scored = {"uncompressed": self._alone(Level()), str(self.level): self._alone(self.level)}
        if self.rows[0]["method"] != NONE.name:
            scored[f"{self.level}, with the prompt"] = self.rows
        found = {name: {row["evaluated_on"]: f"{row['ppl']:.2f}" for row in rows} for name, rows in scored.items()}
        lines = [
            ["corpus", *found],
            *([row["evaluated_on"], *(one[row["evaluated_on"]] for one in found.values())] for row in self.rows),
        ]
        head, *body = (f"| {' | '.join(cells)} |" for cells in lines)
        return "\n".join([head, "|---" * len(lines[0]) + "|", *body])

    def _alone(self, level: Level) -> list[dict[str, Any]]:
        return scores.obtain(self.settings, self.model, level, NONE.name)["perplexity"]
