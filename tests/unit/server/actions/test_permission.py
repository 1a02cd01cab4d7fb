"""Which jobs may be retried, and through which broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sluice_agent.server.actions.broker import Sender, StoredCall
from sluice_agent.server.actions.permission import Permission
from sluice_agent.server.errors import RefusedError


class Workers:
    """A broker whose live workers have these tasks."""

    def __init__(self, *names: str) -> None:
        self.names = frozenset(names)
        self.asked = 0

    def registered_tasks(self) -> frozenset[str]:
        self.asked += 1
        return self.names

    @contextmanager
    def sending(self) -> Iterator[Sender]:
        raise NotImplementedError
        yield

    def revoke(self, task_ids: object) -> None:
        raise NotImplementedError

    def stored_call(self, task_id: str) -> StoredCall | None:
        raise NotImplementedError


def refusal(permission: Permission, name: str, workers: Workers) -> str:
    """Return why a task may not be retried; empty if it may."""
    try:
        permission.check(name, 1, workers)
    except RefusedError as refused:
        return f"{refused.status}: {refused.message}"
    return ""


@pytest.mark.parametrize("name", ["celery.backend_cleanup", "celery.chord", "sluice.jobs.http"])
def test_internal_tasks_are_never_retried(name: str) -> None:
    """A forged event could run a task that starts others by name."""
    assert refusal(Permission(("*",), lambda _: True, lambda: 0), name, Workers(name))


def test_names_are_those_of_the_setting() -> None:
    """A list of tasks that are safe to repeat would not hold."""
    permission = Permission(("shop.*", "mail.send"), lambda _: True, lambda: 0)
    workers = Workers("shop.a", "other")
    assert [refusal(permission, name, workers) == "" for name in ("shop.a", "mail.send", "other")] == [
        True,
        True,
        False,
    ]
    assert "SLUICE_ACTIONS_TASKS" in refusal(permission, "other", workers)
    assert workers.asked == 0


def test_without_the_setting_names_are_those_of_live_workers() -> None:
    """A forged event with a name that no worker has would leave a message that nobody can run."""
    now = 100.0
    permission = Permission((), lambda _: True, lambda: now)
    workers = Workers("shop.a")
    assert refusal(permission, "shop.a", workers) == ""
    assert refusal(permission, "shop.b", workers).startswith("403: The task shop.b may not be retried: no live worker")
    assert workers.asked == 1
    workers.names |= {"shop.b"}
    now += 6
    assert refusal(permission, "shop.b", workers) == ""  # a worker that was just started
    assert workers.asked == 2
    workers.names = frozenset()
    assert refusal(permission, "shop.a", workers) == ""
    now += 61
    assert refusal(permission, "shop.a", workers)


def test_nothing_is_retried_where_any_key_may_write() -> None:
    """Whoever reaches the server could forge a failed job with arguments of his choice, and wait for a retry."""
    message = refusal(Permission(("*",), lambda _: False, lambda: 0), "shop.a", Workers("shop.a"))
    assert "sluice-agent key create" in message
