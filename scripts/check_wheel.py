"""Check that a wheel has every file of the package, and no other: `python scripts/check_wheel.py WHEEL`.

Prints each file that is missing or too much, and exits with 1 if there is one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "sluice_agent"


def main() -> int:
    """Print every finding; return the exit code."""
    with ZipFile(sys.argv[1]) as wheel:
        findings = list(check(wheel.namelist(), ROOT))
    for finding in findings:
        print(finding, file=sys.stderr)
    return 1 if findings else 0


def check(names: Iterable[str], root: Path) -> Iterator[str]:
    """Yield a sentence for each file of the package below `root` that is not in `names`, and the reverse."""
    paths = (path for path in (root / PACKAGE).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    expected = {path.relative_to(root).as_posix() for path in paths}
    packed = {name for name in names if ".dist-info/" not in name and not name.endswith("/")}
    yield from (f"{name} is not in the wheel" for name in sorted(expected - packed))
    yield from (f"{name} is in the wheel, and not in the package" for name in sorted(packed - expected))


if __name__ == "__main__":
    sys.exit(main())
