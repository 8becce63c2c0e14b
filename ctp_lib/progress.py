"""Number the stages of `dvc repro` as they go by: ``dvc repro | python -m ctp_lib.progress <how many>``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator

STAGE = re.compile(r"(?:Running stage|Stage) '([^']+)'")


def numbered(lines: Iterable[str], stages: int) -> Iterator[str]:
    """``lines`` of DVC, those that begin a stage with its number of ``stages`` before them; a stage keeps its number."""
    seen: dict[str, int] = {}
    for line in lines:
        match = STAGE.match(line)
        yield f"[{seen.setdefault(match[1], len(seen) + 1)} of {stages}] {line}" if match else line


def main() -> None:
    """Read standard input to its end."""
    for line in numbered(sys.stdin, int(sys.argv[1])):
        sys.stdout.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
