"""The grid of quantised weights: a scale and an integer zero point for a row, or for each group of columns in a row."""

from compressed_tensors.quantization import QuantizationArgs


def asymmetric(bits: int, group: int | None = None) -> QuantizationArgs:
    """The paper's grid: ``bits`` bits, one scale and one integer zero point a row, so that zero is on the grid; or one of each for every
    ``group`` columns of it.
    """
    over = {"strategy": "channel"} if group is None else {"strategy": "group", "group_size": group}
    return QuantizationArgs(num_bits=bits, type="int", symmetric=False, **over)
