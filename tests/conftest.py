"""Which tests pytest-xdist keeps together in one of its processes: those that share what is slow to start.

Each of its processes has servers of its own and plays its own stages. Without this each would start a RabbitMQ, and
play the same tables as the others.
"""

from __future__ import annotations

import pytest

from tests.support.failures import pytest_runtest_logreport

__all__ = ["pytest_collection_modifyitems", "pytest_runtest_logreport"]


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist writes the groups into the tests' names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and (group := _group(item)):
            item.add_marker(pytest.mark.xdist_group(group))


def _group(test: pytest.Function) -> str:
    """One for each stage, but RabbitMQ's share theirs; one for what else needs RabbitMQ; empty: it may run anywhere."""
    params = test.callspec.params if hasattr(test, "callspec") else {}
    for fixture, value in params.items():
        if fixture in {"played", "watched"}:
            broker, pool = value
            return f"rabbitmq-{fixture}" if broker.startswith("rabbitmq") else f"{test.module.__name__}-{broker}-{pool}"
    brokers = [value for value in params.values() if isinstance(value, str) and value.startswith("rabbitmq")]
    return "rabbitmq" if brokers or "rabbitmq_server" in test.fixturenames else ""
