"""Workers and producers with agents: a monitor on the same cluster leaves to the agents what these report."""

from __future__ import annotations

from typing import Any

import pytest

from sluice_agent.lifecycle.agent_fields import AGENT, CREATED_AT
from tests.unit.monitor.cluster import CONNECTION, PID, WORKER, Cluster

MARK = {AGENT: CONNECTION}
REPLY = {"connectionId": CONNECTION, "reports": True, "version": "9.9"}
WHOLE_RUN = ("received", "started", "succeeded")
CREATED = "2026-09-21T14:13:20.500000Z"


def reply(cluster: Cluster, agent: Any = None, pid: int = PID) -> None:
    """Let the worker reply to `inspect stats`."""
    cluster.tracker.on_reply(WORKER, "stats", {"pid": pid, **({} if agent is None else {AGENT: agent})})


@pytest.fixture
def cluster() -> Cluster:
    """One worker, of which nothing is known yet: events of its jobs are held until it is."""
    return Cluster(agent_seconds=5.0)


def test_an_agent_that_replies(cluster: Cluster) -> None:
    """A worker that sends no heartbeats would otherwise have all of its jobs reported and paid for twice."""
    cluster.run(*WHOLE_RUN)
    assert cluster.tracker.take_due_inspections() == [WORKER]
    reply(cluster, REPLY)
    cluster.run(*WHOLE_RUN, external_id="job-2")
    cluster.wait(10)
    assert cluster.walk() == cluster.walk("job-2") == ""


def test_an_agent_that_only_marks_its_events(cluster: Cluster) -> None:
    """One of an earlier version, or whose worker takes no remote control, would have its jobs reported twice."""
    reply(cluster)
    cluster.beat(**MARK)
    reply(cluster)
    cluster.run(*WHOLE_RUN)
    cluster.wait(10, beating=None)
    assert cluster.walk() == ""


@pytest.mark.parametrize("known_by", ["reply", "heartbeat", "silence"])
def test_a_worker_without_an_agent(cluster: Cluster, known_by: str) -> None:
    """Events that were held while that was not known must not be lost."""
    cluster.run(*WHOLE_RUN)
    assert cluster.walk() == ""
    if known_by == "reply":
        reply(cluster)
    elif known_by == "heartbeat":
        cluster.beat()
    else:
        cluster.wait(6)
    assert cluster.walk() == "queued active completed"
    cluster.run(*WHOLE_RUN, external_id="job-2")
    assert cluster.walk("job-2") == "queued active completed"


def test_events_that_are_held_at_the_end(cluster: Cluster) -> None:
    """A sidecar that is stopped a second after its start would lose all that it has received."""
    cluster.run(*WHOLE_RUN)
    cluster.tracker.finish()
    assert cluster.walk() == "queued active completed"


def test_a_busy_worker_of_which_nothing_is_known() -> None:
    """Without a bound, the events held for it would fill the sidecar's memory."""
    cluster = Cluster(agent_seconds=5.0)
    for number in range(4_000):
        cluster.run(*WHOLE_RUN, external_id=f"job-{number}")
    assert len(cluster.emitted) >= 10_000
    cluster.wait(6)
    assert len(cluster.emitted) == 12_000


@pytest.mark.parametrize(
    "agent",
    [
        {**REPLY, "connectionId": "550e8400-e29b-41d4-a716-000000000000"},
        {**REPLY, "reports": False},
        {"connectionId": CONNECTION},
        "a text",
        [],
    ],
)
def test_an_agent_that_does_not_report_to_us(cluster: Cluster, agent: Any) -> None:
    """One of another account, or whose journal can't be written, reports nothing that our user sees."""
    reply(cluster, agent)
    cluster.run(*WHOLE_RUN)
    cluster.wait(6)
    assert cluster.walk() == "queued active completed"


def test_an_agent_that_can_not_write_any_more(cluster: Cluster) -> None:
    """From its next heartbeat on, only the monitor reports the worker's jobs."""
    reply(cluster, REPLY)
    cluster.beat(**MARK)
    cluster.run(*WHOLE_RUN)
    cluster.beat(**{AGENT: None})
    cluster.run(*WHOLE_RUN, external_id="job-2")
    assert (cluster.walk(), cluster.walk("job-2")) == ("", "queued active completed")


@pytest.mark.parametrize("pid", [PID, PID + 1])
def test_a_worker_that_returns_without_its_agent(cluster: Cluster, pid: int) -> None:
    """In a container it has the same name and process id: its jobs would be reported by no process."""
    cluster.take("worker-online", sw_ver="5.7.0", freq=2.0, active=0, **MARK)
    cluster.run(*WHOLE_RUN)
    cluster.take("worker-online", WORKER, pid, sw_ver="5.7.0", freq=2.0, active=0)
    for kind in ("received", "started"):
        cluster.task(kind, "job-2", WORKER, pid)
    assert (cluster.walk(), cluster.walk("job-2")) == ("", "queued active")


def test_a_worker_without_heartbeats_is_inspected_again(cluster: Cluster) -> None:
    """Nothing else shows that it was started again without its agent."""
    reply(cluster, REPLY)
    cluster.run(*WHOLE_RUN)
    assert cluster.tracker.take_due_inspections() == [WORKER]
    cluster.wait(11)
    cluster.run("received")
    assert cluster.tracker.take_due_inspections() == [WORKER]
    reply(cluster)
    cluster.run(*WHOLE_RUN, external_id="job-2")
    assert cluster.walk("job-2") == "queued active completed"


@pytest.mark.parametrize("worker", ["with an agent", "without", None])
def test_a_producer_with_an_agent(cluster: Cluster, worker: str | None) -> None:
    """It has reported that the job waits, and knows more of it."""
    cluster.beat(**(MARK if worker == "with an agent" else {}))
    cluster.task("sent", **MARK, **{CREATED_AT: CREATED})
    cluster.wait(2)
    if worker:
        cluster.run(*WHOLE_RUN)
    assert cluster.walk() == ("active completed" if worker == "without" else "")
    assert {event["job"]["createdAt"] for event in cluster.jobs()} <= {CREATED}


def test_a_producer_with_an_agent_that_is_slower_than_the_worker(cluster: Cluster) -> None:
    """Its own report has more fields: after one from the worker's receipt, it would count as the second."""
    cluster.beat()
    cluster.task("sent", "job-0", **MARK)
    cluster.run("received", "started")
    cluster.task("sent", **MARK, **{CREATED_AT: CREATED})
    cluster.run("succeeded")
    cluster.wait(3)
    assert cluster.walk() == "active completed"


def test_a_producer_without_an_agent(cluster: Cluster) -> None:
    """A job that no worker receives is reported to wait; a job that a worker with an agent receives, by that agent."""
    cluster.beat(**MARK)
    cluster.task("sent", "job-1")
    cluster.task("sent", "job-2")
    cluster.run("received", external_id="job-2")
    cluster.wait(2)
    assert (cluster.walk("job-1"), cluster.walk("job-2")) == ("queued", "")


@pytest.mark.parametrize("is_received", [True, False])
def test_a_backlog_in_front_of_agents(cluster: Cluster, is_received: bool) -> None:
    """The wait of a job would be reported by both after a few seconds; of a job that no worker receives, by neither."""
    cluster.beat(**MARK)
    cluster.tracker.on_reply(WORKER, "active_queues", [{"name": "q", "routing_key": "q"}])
    cluster.wait(1)
    cluster.task("sent", queue="q", routing_key="q", exchange="")
    for _ in range(20):
        cluster.wait(1)
        cluster.beat(**MARK)
    if is_received:
        cluster.run(*WHOLE_RUN)
    for _ in range(20):
        cluster.wait(1)
        cluster.beat(**MARK)
    assert cluster.walk() == ("" if is_received else "queued")
