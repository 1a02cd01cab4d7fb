"""Jobs that have left their queue and that no worker reports; jobs that do wait must not be taken for these."""

from __future__ import annotations

from typing import Any

import pytest

from sluice_agent.lifecycle.agent_fields import AGENT
from sluice_agent.lifecycle.identity import job_event_id
from tests.unit.monitor.cluster import CONNECTION, PID, START, WORKER, Cluster

ROUTE = {"queue": "q", "exchange": "", "routing_key": "q"}
ONE = (WORKER, PID)
QUEUE = {"name": "q", "exchange": {"name": "q", "type": "direct"}, "routing_key": "q"}


@pytest.fixture
def cluster() -> Cluster:
    """One worker, which sends heartbeats, and consumes one queue."""
    cluster = Cluster()
    cluster.beat()
    reply(cluster)
    return cluster


def reply(cluster: Cluster, **tasks: Any) -> None:
    """Reply for the worker, if it is to be inspected."""
    if WORKER in cluster.tracker.take_due_inspections():
        cluster.tracker.on_reply(WORKER, "stats", {"pid": PID, "pool": {"implementation": "prefork:TaskPool"}})
        cluster.tracker.on_reply(WORKER, "active_queues", [QUEUE])
        for command in ("active", "reserved", "scheduled"):
            cluster.tracker.on_reply(WORKER, command, tasks.get(command, []))


def check(cluster: Cluster, ready: int = 0, celery_delayed_6: int = 0, **tasks: Any) -> None:
    """Let time go on until long waits are checked, with these queue lengths and tasks, and for as long again."""
    for _ in range(70):
        cluster.wait(1, beating=ONE)
        if cluster.tracker.suspected_queues:
            cluster.tracker.on_queue_lengths({"q": ready, "celery_delayed_6": celery_delayed_6})
        reply(cluster, **tasks)


def test_a_job_that_no_worker_reports(cluster: Cluster) -> None:
    """A worker without -E has received it, or it was purged: it would be shown as queued for years."""
    cluster.task("sent", **ROUTE)
    cluster.wait(20, beating=ONE)
    assert not cluster.tracker.suspected_queues
    check(cluster)
    assert cluster.walk() == "queued unknown"
    job = cluster.jobs()[-1]["job"]
    assert job["extensions"]["reason"] == "it has left its queue q, and no worker has reported it"
    assert job["extensions"]["eventId"] == job_event_id(CONNECTION, "job-1", "unknown", 1)
    check(cluster)
    assert cluster.walk() == "queued unknown"  # once


def test_a_job_whose_events_arrive_after_all(cluster: Cluster) -> None:
    """A broker may have held it back: its later states are reported, dated after all earlier ones."""
    cluster.task("sent", **ROUTE)
    check(cluster)
    early = START + 1
    cluster.task("received", timestamp=early)
    cluster.task("started", timestamp=early + 1)
    cluster.task("succeeded", runtime=2.0, timestamp=early + 3)
    assert cluster.walk() == "queued unknown active completed"


def test_a_retry_that_no_worker_reports(cluster: Cluster) -> None:
    """A worker without -E may receive the next attempt just as well."""
    cluster.task("sent", **ROUTE)
    cluster.run("received", "started")
    cluster.task("retried", exception="ValueError('no')", traceback="")
    check(cluster)
    assert cluster.walk() == "queued active retrying unknown/2"


def test_a_retry_that_waits_for_its_time(cluster: Cluster) -> None:
    """RabbitMQ holds it for a quorum queue, which is empty meanwhile, and no event names its ETA."""
    cluster.task("sent", **ROUTE)
    cluster.run("received", "started")
    cluster.task("retried", exception="ValueError('no')", traceback="")
    check(cluster, celery_delayed_6=1)
    assert cluster.walk() == "queued active retrying"
    check(cluster)
    assert cluster.walk() == "queued active retrying unknown/2"


def test_a_worker_that_was_not_known(cluster: Cluster) -> None:
    """It sends neither heartbeats nor events, and its agent reports the job: only an inspection of all finds it."""
    cluster.task("sent", **ROUTE)
    discoveries = 0
    for _ in range(70):
        cluster.wait(1, beating=ONE)
        if cluster.tracker.suspected_queues:
            assert not cluster.tracker.take_due_discovery()
            cluster.tracker.on_queue_lengths({"q": 0})
        reply(cluster)
        if cluster.tracker.take_due_discovery():
            discoveries += 1
            agent = {"connectionId": CONNECTION, "reports": True}
            cluster.tracker.on_reply("celery@other", "stats", {"pid": 7, AGENT: agent})
            cluster.tracker.on_reply("celery@other", "active_queues", [QUEUE])
    assert discoveries == 1
    assert cluster.walk() == "queued"


@pytest.mark.parametrize(
    ("kind", "fields", "end"),
    [
        ("revoked", {}, "cancelled"),
        ("revoked", {"expired": True}, "cancelled"),
        ("failed", {"exception": "NotRegistered('app.add')"}, "failed"),
    ],
)
def test_a_job_that_a_worker_has_refused(cluster: Cluster, kind: str, fields: dict[str, Any], end: str) -> None:
    """No worker has it and its queue is empty, as it has ended; the next publication under its id is another job."""
    cluster.task("sent", **ROUTE)
    cluster.wait(2, beating=ONE)
    cluster.task(kind, **fields)
    check(cluster)
    assert cluster.walk() == f"queued {end}"
    cluster.task("sent", **ROUTE)
    cluster.run("received", "started")
    cluster.task("succeeded", runtime=1.0)
    check(cluster)
    assert cluster.walk() == f"queued {end} queued active completed"


@pytest.mark.parametrize("pause", [0, 100])
def test_a_job_that_waits_in_its_queue(cluster: Cluster, pause: int) -> None:
    """A backlog of hours is no loss."""
    cluster.task("sent", **ROUTE)
    cluster.wait(pause, beating=ONE)
    check(cluster, ready=1)
    assert cluster.walk() == "queued"


@pytest.mark.parametrize("command", ["active", "reserved", "scheduled"])
def test_a_job_that_a_worker_has(cluster: Cluster, command: str) -> None:
    """It has left its queue, and waits or runs in a worker that sends no events."""
    cluster.task("sent", **ROUTE)
    request = {"id": "job-1", "name": "app.add", "time_start": None, "delivery_info": ROUTE}
    tasks = [{"request": request, "eta": None}] if command == "scheduled" else [request]
    check(cluster, **{command: tasks})
    assert "unknown" not in cluster.walk()
    if command == "reserved":
        check(cluster)
        assert cluster.walk() == "queued unknown"  # it has it no more


def test_a_worker_that_does_not_answer(cluster: Cluster) -> None:
    """It may have the job: a busy solo worker sends nothing while it runs one, and has prefetched others."""
    cluster.task("sent", **ROUTE)
    for _ in range(200):
        cluster.wait(1, beating=ONE)
        cluster.tracker.take_due_inspections()
        if cluster.tracker.suspected_queues:
            cluster.tracker.on_queue_lengths({"q": 0})
    assert cluster.walk() == "queued"


@pytest.mark.parametrize(
    "event",
    [
        {**ROUTE, "eta": "2100-01-01T00:00:00+00:00"},
        {**ROUTE, "exchange": "e", "routing_key": "k"},
        {"queue": "q"},
    ],
)
def test_where_a_job_waits_is_not_certain(cluster: Cluster, event: dict[str, Any]) -> None:
    """It is held until its time, or the default queue is named for it where it went elsewhere."""
    cluster.task("sent", **event)
    check(cluster)
    assert "unknown" not in cluster.walk()


def test_a_queue_of_a_worker_with_an_agent(cluster: Cluster) -> None:
    """The agent reports the job, and knows better; its worker may send no events."""
    cluster.beat(sluice_agent=CONNECTION)
    cluster.task("sent", **ROUTE)
    check(cluster)  # without its agent
    assert cluster.walk() == "queued"


def test_a_standby(cluster: Cluster) -> None:
    """Another replica receives the events of jobs."""
    cluster.task("sent", **ROUTE)
    cluster.tracker.enter_standby()
    check(cluster)
    assert cluster.walk() == "queued"
