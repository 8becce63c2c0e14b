"""What the notebooks of the *Compress, Then Prompt* reproduction call."""

import logging
import os

# Remarks of libraries about steps and hardware that concern no reader of a notebook; their errors still come through.
for _chatty in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_chatty).setLevel(logging.ERROR)
for _chatty in ("LLM_COMPRESSOR_LOG_LEVEL", "COMPRESSED_TENSORS_LOG_LEVEL"):
    os.environ.setdefault(_chatty, "ERROR")

# Nobody is told that, when or where the study runs.
for _telemetry in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.setdefault(_telemetry, "1")

# Threads that wait for each other sleep: beside another busy process, two that spin take ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
