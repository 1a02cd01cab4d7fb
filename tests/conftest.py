"""Which tests pytest-xdist keeps together in one of its processes: those that share what is slow to start.

Each of its processes has servers of its own and plays its own stages. Without this each would start a RabbitMQ, and
play the same table as the others.
"""

from __future__ import annotations

import pytest

RABBITMQ = {"rabbitmq", "rabbitmq-quorum"}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist writes the groups into the tests' names
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and (group := _group(item)):
            item.add_marker(pytest.mark.xdist_group(group))


def _group(test: pytest.Function) -> str:
    """One for all that need RabbitMQ, one for each other stage; empty where a test may run anywhere."""
    params = test.callspec.params if hasattr(test, "callspec") else {}
    stage: tuple[str, ...] = params.get("played", ())
    words = {*stage, *(value for value in params.values() if isinstance(value, str))}
    if "rabbitmq_server" in test.fixturenames or words & RABBITMQ:
        return "rabbitmq"
    return "-".join(stage)
