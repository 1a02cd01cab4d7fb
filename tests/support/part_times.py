"""How long each part of the tests took: scripts/test.sh prints it at the end."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

PATH = "PART_TIMES"
NAME = "PART"


class PartTimes:
    """A plugin of pytest that adds a line for each folder of tests to the file that PART_TIMES names.

    PART is what the lines begin with, if it is set. pytest-xdist's processes leave them to their parent, which gets all
    reports.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._seconds: Counter[str] = Counter()
        self._tests: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add the time of a test, of its set-up or of its end."""
        part = "/".join(report.nodeid.partition("::")[0].split("/")[:2])
        self._seconds[part] += report.duration
        self._tests[part] += report.when == "call"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the lines."""
        path = os.environ.get(PATH)
        if not path or "PYTEST_XDIST_WORKER" in os.environ:
            return
        processes = session.config.getoption("numprocesses", None) or 1
        run = f"in all; the run took {time.monotonic() - self._started:.0f} s, {processes} at a time"
        with Path(path).open("a", encoding="utf-8") as file:
            for part, seconds in sorted(self._seconds.items()):
                name = f"{os.environ.get(NAME, '')} {part}".strip()
                file.write(f"{name}: {self._tests[part]} tests, {seconds:.0f} s {run}\n")
