"""The fixtures of all tests, and the groups that pytest-xdist runs in the same process, as they share a slow set-up.

Groups and long tests run before the others, so that the processes end at the same time.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.endpoint import Endpoint
from tests.support.examples import EXAMPLES
from tests.support.failures import pytest_runtest_logreport
from tests.support.part_times import PartTimes

__all__ = [
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_report_header",
    "pytest_runtest_logreport",
]


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C end the commands that tests start: a shell makes a command in the background ignore it, which its
    children inherit. Note how long the parts take."""
    config.pluginmanager.register(PartTimes())
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A new ingest endpoint. It asserts at the end of the test that no request broke the contract."""
    server = Endpoint()
    yield server
    server.close()
    assert server.faults == [], server.faults[:5]


def pytest_report_header() -> str:
    """Show in CI's output which sizes its tests had."""
    faults, matrix = (os.environ.get(name, "usual") for name in ("FAULTS", "MATRIX"))
    return f"sizes: FAULTS={faults} (or long), MATRIX={matrix} (or full), EXAMPLES={EXAMPLES} (few, some or full)"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist writes the groups into the tests' names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and (group := _group(item)):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_rank)


def pytest_collection_finish() -> None:
    """Exempt what was imported from garbage collection: a full one would take 100 ms, and tests request many."""
    gc.collect()
    gc.freeze()


def _rank(test: pytest.Item) -> tuple[int, str]:
    """Return the key that sorts the groups first, then the long tests, then the others."""
    if isinstance(test, pytest.Function) and (group := _group(test)):
        return 0, group
    return (1 if test.get_closest_marker("long") else 2), ""


def _group(test: pytest.Function) -> str:
    """Return the group of a test of the table, one for each run of it; of a test of pages, one for each file, as they
    share a browser; else an empty string."""
    if test.path.parent.name == "pages":
        return test.path.stem
    params = test.callspec.params if hasattr(test, "callspec") else {}
    for fixture in ("table_run", "monitored_run"):
        if fixture in params:
            return f"{test.module.__name__}-{'-'.join(params[fixture])}"
    return ""
