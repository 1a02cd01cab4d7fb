"""Jobs that have left their queue, and that no worker speaks of: they do not wait, and those that do are no such."""

from __future__ import annotations

from typing import Any

import pytest

from sluice_agent.agent_fields import AGENT
from sluice_agent.identity import job_event_id
from tests.unit.monitor.cluster import CONNECTION, PID, START, WORKER, Cluster

ROUTE = {"queue": "q", "exchange": "", "routing_key": "q"}
ONE = (WORKER, PID)
QUEUE = {"name": "q", "exchange": {"name": "q", "type": "direct"}, "routing_key": "q"}


@pytest.fixture
def cluster() -> Cluster:
    """One worker, which sends heartbeats, and takes from one queue."""
    cluster = Cluster()
    cluster.beat()
    answer(cluster)
    return cluster


def answer(cluster: Cluster, **tasks: Any) -> None:
    """The worker is asked what it has, if it is to be, and answers."""
    if WORKER in cluster.tracker.due_for_inspection():
        cluster.tracker.on_reply(WORKER, "stats", {"pid": PID, "pool": {"implementation": "prefork:TaskPool"}})
        cluster.tracker.on_reply(WORKER, "active_queues", [QUEUE])
        for what in ("active", "reserved", "scheduled"):
            cluster.tracker.on_reply(WORKER, what, tasks.get(what, []))


def looked(cluster: Cluster, ready: int = 0, celery_delayed_6: int = 0, **tasks: Any) -> None:
    """Time goes on until long waits are looked into, with what is found then, and for as long again."""
    for _ in range(70):
        cluster.wait(1, beating=ONE)
        if cluster.tracker.suspected_queues:
            cluster.tracker.on_queue_lengths({"q": ready, "celery_delayed_6": celery_delayed_6})
        answer(cluster, **tasks)


def test_a_job_that_nobody_speaks_of(cluster: Cluster) -> None:
    """A worker without -E has taken it, or it was purged: it would be shown as queued for years."""
    cluster.task("sent", **ROUTE)
    cluster.wait(20, beating=ONE)
    assert not cluster.tracker.suspected_queues
    looked(cluster)
    assert cluster.walk() == "queued unknown"
    told = cluster.jobs()[-1]["job"]
    assert told["extensions"]["reason"] == "it has left its queue q, and no worker has reported it"
    assert told["extensions"]["eventId"] == job_event_id(CONNECTION, "job-1", "unknown", 1)
    looked(cluster)
    assert cluster.walk() == "queued unknown"  # once


def test_a_job_that_is_heard_of_after_all(cluster: Cluster) -> None:
    """A broker may have held it back: what becomes of it is reported, behind all that was."""
    cluster.task("sent", **ROUTE)
    looked(cluster)
    early = START + 1
    cluster.task("received", timestamp=early)
    cluster.task("started", timestamp=early + 1)
    cluster.task("succeeded", runtime=2.0, timestamp=early + 3)
    assert cluster.walk() == "queued unknown active completed"


def test_a_retry_that_nobody_speaks_of(cluster: Cluster) -> None:
    """The next attempt may be taken by a worker without -E just as well."""
    cluster.task("sent", **ROUTE)
    cluster.run("received", "started")
    cluster.task("retried", exception="ValueError('no')", traceback="")
    looked(cluster)
    assert cluster.walk() == "queued active retrying unknown/2"


def test_a_retry_that_waits_for_its_time(cluster: Cluster) -> None:
    """RabbitMQ holds it for a quorum queue, which is empty meanwhile, and no event names its ETA."""
    cluster.task("sent", **ROUTE)
    cluster.run("received", "started")
    cluster.task("retried", exception="ValueError('no')", traceback="")
    looked(cluster, celery_delayed_6=1)
    assert cluster.walk() == "queued active retrying"
    looked(cluster)
    assert cluster.walk() == "queued active retrying unknown/2"


def test_a_worker_that_was_never_heard_of(cluster: Cluster) -> None:
    """It sends no heartbeats and no events, and its agent reports the job: it shows only as everybody is asked."""
    cluster.task("sent", **ROUTE)
    sought = 0
    for _ in range(70):
        cluster.wait(1, beating=ONE)
        if cluster.tracker.suspected_queues:
            assert not cluster.tracker.due_for_discovery()
            cluster.tracker.on_queue_lengths({"q": 0})
        answer(cluster)
        if cluster.tracker.due_for_discovery():
            sought += 1
            agent = {"connectionId": CONNECTION, "reports": True}
            cluster.tracker.on_reply("celery@other", "stats", {"pid": 7, AGENT: agent})
            cluster.tracker.on_reply("celery@other", "active_queues", [QUEUE])
    assert sought == 1
    assert cluster.walk() == "queued"


@pytest.mark.parametrize(
    ("kind", "about", "end"),
    [
        ("revoked", {}, "cancelled"),
        ("revoked", {"expired": True}, "cancelled"),
        ("failed", {"exception": "NotRegistered('app.add')"}, "failed"),
    ],
)
def test_a_job_that_a_worker_turned_away(cluster: Cluster, kind: str, about: dict[str, Any], end: str) -> None:
    """No worker has it and its queue is empty, as it has ended; the next publication under its id is another job."""
    cluster.task("sent", **ROUTE)
    cluster.wait(2, beating=ONE)
    cluster.task(kind, **about)
    looked(cluster)
    assert cluster.walk() == f"queued {end}"
    cluster.task("sent", **ROUTE)
    cluster.run("received", "started")
    cluster.task("succeeded", runtime=1.0)
    looked(cluster)
    assert cluster.walk() == f"queued {end} queued active completed"


@pytest.mark.parametrize("pause", [0, 100])
def test_a_job_that_waits_in_its_queue(cluster: Cluster, pause: int) -> None:
    """A backlog of hours is no loss."""
    cluster.task("sent", **ROUTE)
    cluster.wait(pause, beating=ONE)
    looked(cluster, ready=1)
    assert cluster.walk() == "queued"


@pytest.mark.parametrize("where", ["active", "reserved", "scheduled"])
def test_a_job_that_a_worker_has(cluster: Cluster, where: str) -> None:
    """It has left its queue, and waits or runs in a worker that sends no events."""
    cluster.task("sent", **ROUTE)
    request = {"id": "job-1", "name": "app.add", "time_start": None, "delivery_info": ROUTE}
    has = [{"request": request, "eta": None}] if where == "scheduled" else [request]
    looked(cluster, **{where: has})
    assert "unknown" not in cluster.walk()
    if where == "reserved":
        looked(cluster)
        assert cluster.walk() == "queued unknown"  # it has it no more


def test_a_worker_that_does_not_answer(cluster: Cluster) -> None:
    """It may have the job: a busy solo worker says nothing while it runs one, and has others in hand."""
    cluster.task("sent", **ROUTE)
    for _ in range(200):
        cluster.wait(1, beating=ONE)
        cluster.tracker.due_for_inspection()
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
    looked(cluster)
    assert "unknown" not in cluster.walk()


def test_a_queue_from_which_an_agent_takes(cluster: Cluster) -> None:
    """The agent reports the job, and knows better; its worker may send no events."""
    cluster.beat(sluice_agent=CONNECTION)
    cluster.task("sent", **ROUTE)
    looked(cluster)  # without its agent
    assert cluster.walk() == "queued"


def test_a_standby(cluster: Cluster) -> None:
    """Another replica hears what becomes of jobs."""
    cluster.task("sent", **ROUTE)
    cluster.tracker.enter_standby()
    looked(cluster)
    assert cluster.walk() == "queued"
