"""Jobs that are probably stuck or lost: which of those under way the filter ``problem`` selects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.local_sluice import LocalSluice
from tests.unit.server.events import Clock, at, ingest, job_event, run, worker_event

CLOCK = Clock()
CLOCK.seconds = 8 * 60


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server in which it is eight minutes past ten, with jobs under way of each kind."""
    server = LocalSluice(Path(tmp_path_factory.mktemp("problems")) / "sluice.db", now=CLOCK)
    client = server.client()
    ingest(client, *(event for events in _events() for event in events))
    yield client
    server.stop()
    server.join()


def _events() -> Iterator[list[Any]]:
    yield [event for n in range(25) for event in run("known", n, "completed", seconds=30)]
    yield [event for n in range(19) for event in run("rare", n, "completed", seconds=1)]
    yield active("known slow", "known", 0, "celery@here")
    yield active("known usual", "known", 400, "celery@here")
    yield active("rare", "rare", 0, "celery@here")
    yield active("on a silent worker", "known", 450, "celery@silent")
    yield active("on a worker that ended", "known", 450, "celery@ended")
    yield active("on a worker of which nothing is known", "known", 450, "celery@other")
    yield eta("overdue", "scheduled", 300)
    yield eta("just due", "scheduled", 450)
    yield eta("due later", "scheduled", 900)
    yield eta("a retry that is overdue", "retrying", 300)
    yield eta("ran", "completed", 300)
    yield expiring("expired", "queued", 300)
    yield expiring("just expired", "queued", 450)
    yield expiring("expires later", "queued", 900)
    yield expiring("ran in time", "completed", 300)
    yield [worker_event("heartbeat", 478, "celery@here"), worker_event("heartbeat", 400, "celery@silent")]
    yield [worker_event("online", 1, "celery@ended"), worker_event("offline", 470, "celery@ended")]
    yield active("before a restart", "known", 450, "celery@restarted")
    yield active("after a restart", "known", 461, "celery@restarted")
    yield active("delivered again", "known", 450, "celery@restarted")
    yield active("delivered again", "known", 462, "celery@restarted", extensions={"redelivered": True})
    agent = {"metadata": {"agent": "0.1.0"}, "pid": 1}  # in a container, each process has this id
    yield [worker_event("online", seconds, "celery@restarted", **agent) for seconds in (1, 460)]
    yield [worker_event("heartbeat", 478, "celery@restarted", **agent)]


def active(id_: str, name: str, start: float, worker: str, **fields: Any) -> list[Any]:
    job = {"name": name, "queue": "mail", "workerId": worker, "createdAt": at(start), "startedAt": at(start), **fields}
    return [job_event("active", start, externalId=id_, **job)]


def eta(id_: str, state: str, seconds: float) -> list[Any]:
    extensions = {"eta": at(seconds)}
    return [job_event(state, 10, externalId=id_, name="later", queue="mail", createdAt=at(9), extensions=extensions)]


def expiring(id_: str, state: str, seconds: float) -> list[Any]:
    extensions = {"expires": at(seconds)}
    return [job_event(state, 10, externalId=id_, name="soon", queue="mail", createdAt=at(9), extensions=extensions)]


def found(client: httpx.Client, **parameters: str) -> set[str]:
    """Return the framework's ids of the jobs that a list has, which also counts them."""
    response = client.get("/jobs", params=parameters)
    assert response.status_code == 200, response.text
    page = response.json()
    assert page["pagination"]["total"] == len(page["data"])
    return {job["externalId"] for job in page["data"]}


def test_slow_are_those_that_run_for_three_times_the_p99(client: httpx.Client) -> None:
    """A job that hangs would otherwise stay unseen among the active ones; and a task of which little is known, or a
    job that has just begun, must not alarm anybody."""
    assert found(client, problem="slow") == {"known slow"}


def test_lost_are_those_on_workers_that_are_gone(client: httpx.Client) -> None:
    """A job of a killed worker is active for ever. One on a worker that never reported is not known to be lost."""
    lost = {"on a silent worker", "on a worker that ended", "before a restart"}
    assert found(client, problem="lost") == lost
    assert found(client, problem="lost", worker="celery@restarted") == {"before a restart"}


def test_overdue_are_those_whose_eta_has_passed(client: httpx.Client) -> None:
    """A job that was held by a worker that is gone would never be missed. One that ran is no longer waiting."""
    assert found(client, problem="overdue") == {"overdue", "a retry that is overdue"}


def test_expired_are_those_that_wait_for_too_long(client: httpx.Client) -> None:
    """A queue that no worker consumes would not be seen, as RabbitMQ discards its jobs without a report."""
    assert found(client, problem="expired") == {"expired"}


@pytest.mark.parametrize("sort", ["createdAt", "startedAt", "durationMs", "name", "worker", "state"])
@pytest.mark.parametrize("problem", ["slow", "lost", "expired", "overdue"])
def test_other_filters_and_orders_apply_as_well(client: httpx.Client, problem: str, sort: str) -> None:
    """A user looks for the stuck jobs of one queue, the longest running first."""
    every = found(client, problem=problem, queue="mail", sortBy=sort)
    assert every == found(client, problem=problem)
    assert found(client, problem=problem, queue="absent", sortBy=sort) == set()
    assert found(client, problem=problem, state="completed", sortBy=sort) == set()


def test_an_unknown_problem_is_refused(client: httpx.Client) -> None:
    """A misspelt filter that was ignored would show all jobs as stuck."""
    response = client.get("/jobs", params={"problem": "stuck"})
    assert response.status_code == 400
    assert "problem" in response.json()["error"]["details"]
