"""DVC's list of what is being read and written, which a kill can leave half written."""

import json
import time
from pathlib import Path

FILE = ".dvc/tmp/rwlock"
WRITTEN = 1.0
"""Seconds in which DVC has surely written the file, once it has begun."""


def mend(root: Path) -> bool:
    """Remove the list if it cannot be read, since DVC would refuse all further work; whether it was removed. DVC makes it anew."""
    path = root / FILE
    if _readable(path):
        return False
    time.sleep(WRITTEN)
    if _readable(path):
        return False
    path.unlink(missing_ok=True)
    return True


def _readable(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True
