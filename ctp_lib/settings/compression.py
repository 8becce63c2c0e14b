"""What a model is compressed with."""

from pydantic.dataclasses import dataclass

from ctp_lib.settings.spec import SPEC, Count, Positive, Window


@dataclass(**SPEC)
class CompressionSpec:
    """Calibration text (``windows`` x ``window`` tokens of ``corpus``, some at once) and the solver's settings (paper, section 4.1)."""

    corpus: str
    windows: Count
    window: Window
    dampening: Positive
    block_size: Count
    windows_at_once: Count = 16
