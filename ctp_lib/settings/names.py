"""Names that the graph passes on: a model's or a level's slug back to what people write."""

from __future__ import annotations

from ctp_lib.settings import models
from ctp_lib.settings.study import Study


def model(settings: Study, text: str) -> str:
    """The model of ``params.yaml`` whose slug is ``text``, or ``text`` itself."""
    return next((name for name in settings.models if models.slug(name) == text), text)


def level(settings: Study, text: str) -> str:
    """The level of the study whose slug is ``text``, or ``text`` itself."""
    return next((str(found) for found in settings.levels if found.slug == text), text)
