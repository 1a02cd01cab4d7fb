"""Records failed tests in the file that FAILED_TESTS names, from which scripts/pytest.sh runs them again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PATH = "FAILED_TESTS"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add the test. pytest-xdist's processes leave that to their parent, which gets all reports."""
    path = os.environ.get(PATH)
    if report.failed and path and "PYTEST_XDIST_WORKER" not in os.environ:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{without_group(report.nodeid)}\n")


def without_group(nodeid: str) -> str:
    """Return `nodeid` as pytest accepts it: pytest-xdist appends ``@`` and the group of a test that has one."""
    name, at, group = nodeid.rpartition("@")
    return name if at and "]" not in group and "::" not in group else nodeid
