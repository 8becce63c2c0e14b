"""The uncompressed model as a teacher: what it predicts of a text is the same for every level, seed and method, so it is computed once."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ctp_lib.model.likelihood import Head, frozen_head, predicting_rows
from ctp_lib.settings import paths

AT_MOST = 4 * 10**9
"""Bytes that are kept of one model; what goes beyond is computed each time."""


class Teacher:
    """``network``, frozen. With a ``folder``, the last hidden states of windows are rounded to 16 bits and kept there.

    They are rounded also where they are not kept for want of room, so that the numbers do not depend on it.
    """

    def __init__(self, network: PreTrainedModel, folder: Path | None = None):
        self.network, self.folder = network, folder
        self._room = AT_MOST - sum(path.stat().st_size for path in folder.glob("*.safetensors")) if folder else 0

    @torch.no_grad()
    def predicts(self, windows: Tensor) -> tuple[Tensor, Head | None]:
        """What :func:`ctp_lib.model.likelihood.predicting_rows` gives of ``windows`` (int64, number x length), without a prompt."""
        head = frozen_head(self.network)
        if head is None or self.folder is None:
            return predicting_rows(self.network, windows, None)
        name = hashlib.sha256(repr(tuple(windows.shape)).encode() + windows.cpu().numpy().tobytes()).hexdigest()[:24]
        path = self.folder / f"{name}.safetensors"
        if path.exists():
            try:
                return load_file(path, device=str(self.network.device))["states"].to(self.network.dtype), head
            except (SafetensorError, KeyError):
                path.unlink()  # damaged, so it is made again
        rows = predicting_rows(self.network, windows, None)[0]
        states = rows.to(torch.bfloat16 if rows.dtype == torch.bfloat16 else torch.float16)
        if not states.isfinite().all():
            return rows, head
        if states.nbytes <= self._room:
            self._room -= states.nbytes
            with paths.replacing(path) as incoming:
                save_file({"states": states.cpu().contiguous()}, incoming)
        return states.to(rows.dtype), head
