"""The fixtures of all tests, and the groups of tests that pytest-xdist runs in the same process.

A group shares servers that are slow to start. Each process of pytest-xdist has its own servers and runs the table
itself: without the groups each would start a RabbitMQ, and run the same tables as the others.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.endpoint import Endpoint
from tests.support.failures import pytest_runtest_logreport

__all__ = ["pytest_collection_modifyitems", "pytest_runtest_logreport"]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A new ingest endpoint. It asserts at the end of the test that no request broke the contract."""
    server = Endpoint()
    yield server
    server.close()
    assert server.faults == [], server.faults[:5]


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist writes the groups into the tests' names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and (group := _group(item)):
            item.add_marker(pytest.mark.xdist_group(group))


def _group(test: pytest.Function) -> str:
    """Return the test's group, if any: one for each run of the table (RabbitMQ's share one), one for RabbitMQ."""
    params = test.callspec.params if hasattr(test, "callspec") else {}
    for fixture, value in params.items():
        if fixture in {"table_run", "monitored_run"}:
            broker, pool = value
            return f"rabbitmq-{fixture}" if broker.startswith("rabbitmq") else f"{test.module.__name__}-{broker}-{pool}"
    brokers = [value for value in params.values() if isinstance(value, str) and value.startswith("rabbitmq")]
    return "rabbitmq" if brokers or "rabbitmq_server" in test.fixturenames else ""
