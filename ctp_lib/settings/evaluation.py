"""What is measured, and on how much text."""

from collections.abc import Mapping

from pydantic.dataclasses import dataclass

from ctp_lib.settings.spec import SPEC, Window, require


@dataclass(**SPEC)
class EvaluationSpec:
    """Window length in tokens and, by split, the largest number of windows that is scored."""

    window: Window
    windows: Mapping[str, int]

    def __post_init__(self) -> None:
        require(set(self.windows) == {"validation", "test"}, "windows", dict(self.windows), "a number for validation and for test")
        require(min(self.windows.values()) >= 2, "windows", dict(self.windows), "2 windows or more for each split")
