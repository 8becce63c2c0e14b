"""Number the stages of `dvc repro` as they go by: ``dvc repro | python -m ctp_lib.progress <file with a line a stage>``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

STAGE = re.compile(r"(?:Running stage|Stage) '([^']+)'")


def numbered(lines: Iterable[str], stages: int) -> Iterator[str]:
    """``lines`` of DVC, those that begin a stage with its number of ``stages`` before them; a stage keeps its number."""
    seen: dict[str, int] = {}
    for line in lines:
        match = STAGE.match(line)
        yield f"[{seen.setdefault(match[1], len(seen) + 1)} of {stages}] {line}" if match else line


def main() -> None:
    """Read standard input to its end."""
    stages = len(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines())
    for line in numbered(sys.stdin, stages):
        sys.stdout.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
