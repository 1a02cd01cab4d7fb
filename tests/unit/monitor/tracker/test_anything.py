"""Messages of any sender: with any value in any field, a job is reported as far as it is known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sluice_agent.monitor.queues.sampler import count_consumers
from tests.unit.monitor.cluster import CONNECTION, PID, START, WORKER, Cluster

MESSAGE = {"name": "app.add", "args": "(1, 2)", "kwargs": "{}", "root_id": "r", "parent_id": "p", "retries": 0}
ROUTE = {"queue": "q", "exchange": "e", "routing_key": "k"}
FAILURE = {"exception": "ValueError('no')", "traceback": "Traceback (most recent call last):\n"}
SENDER = {"hostname": WORKER, "pid": PID, "timestamp": START, "utcoffset": 0, "clock": 1}
VITALS = {"freq": 2.0, "active": 1, "processed": 3, "loadavg": [1, 2, 3], "sw_ver": "5.7.0", "sw_sys": "Linux"}
JOB_EVENTS: dict[str, dict[str, Any]] = {
    "task-sent": {**MESSAGE, **ROUTE, "eta": None, "expires": None},
    "task-received": {**MESSAGE, "eta": None, "expires": None},
    "task-started": {},
    "task-succeeded": {"result": "3", "runtime": 0.5},
    "task-failed": FAILURE,
    "task-retried": FAILURE,
    "task-revoked": {"terminated": True, "signum": 15, "expired": False},
    "task-rejected": {"requeue": True},
    "task-cancelled": {},
}
WORKER_EVENTS = ("worker-online", "worker-heartbeat", "worker-offline")
REPLIES: dict[str, Any] = {
    "stats": {"pid": PID, "pool": {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": 2}},
    "active_queues": [{"name": "q", "exchange": {"name": "e", "type": "topic"}, "routing_key": "#", "bindings": [{}]}],
    "registered": ["app.add [acks_late=True]"],
    "active": [{"id": "job-1", "name": "app.add", "time_start": START, "delivery_info": {"priority": 3}}],
    "reserved": [{"id": "job-2", "name": "app.add", "delivery_info": {"exchange": "e", "routing_key": "k"}}],
    "scheduled": [{"eta": "2100-01-01T00:00:00", "request": {"id": "job-3", "name": "app.add"}}],
}

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["", "2026-01-01", "ValueError({[]: 1})", "\ud800", "0001-01-01T00:00:00+14:00"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.tuples(st.sampled_from(sorted(JOB_EVENTS)), st.integers(0, 20), anything), max_size=8))
@example([("task-received", 7, ["a list"]), ("task-sent", 8, {"a": "dict"})])
@example([("task-started", 0, "x"), ("task-succeeded", 6, 10**400)])
def test_no_job_is_dropped_for_a_field(events: list[tuple[str, int, Any]]) -> None:
    """Otherwise clients in other languages, and hostile programs, would make jobs vanish or look lost."""
    cluster = Cluster(redact=lambda _, value: value)
    for kind, number, value in events:
        event = {**SENDER, **JOB_EVENTS[kind]}
        event[sorted(event)[number % len(event)]] = value
        cluster.tracker.take({**event, "type": kind, "uuid": "job-1"})
        cluster.wait(1)
    cluster.wait(5)
    assert not cluster.dropped
    assert cluster.jobs() or not events


@given(st.lists(st.tuples(st.sampled_from(WORKER_EVENTS), st.sampled_from(sorted({**SENDER, **VITALS})), anything)))
def test_no_worker_is_dropped_for_a_field(events: list[tuple[str, str, Any]]) -> None:
    """Otherwise one malformed heartbeat would end all knowledge of a worker; one that names none is counted."""
    cluster = Cluster()
    nameless = 0
    for kind, field, value in events:
        event = {**SENDER, **VITALS, field: value}
        nameless += not (isinstance(event["hostname"], str) and event["hostname"])
        cluster.tracker.take({**event, "type": kind})
        cluster.wait(1)
    assert cluster.dropped.total() == nameless


@given(st.sampled_from(sorted(REPLIES)), st.lists(st.integers(0, 9), max_size=4), anything)
def test_no_reply_is_dropped_for_a_part(command: str, path: list[int], value: Any) -> None:
    """Workers of any version reply, and other programs on the broker may do so in their name."""
    cluster = Cluster()
    cluster.beat(sluice_agent=CONNECTION)
    cluster.tracker.on_reply(WORKER, command, replaced(REPLIES[command], path, value))
    cluster.wait(10)
    assert not cluster.dropped


@given(
    st.lists(anything | st.dictionaries(st.just(WORKER), anything)), st.lists(st.integers(0, 9), max_size=4), anything
)
def test_no_worker_is_counted_wrong_for_a_part(replies: list[Any], path: list[int], value: Any) -> None:
    """Otherwise a program that replies in a worker's name would end the samples of all queues."""
    consumers = count_consumers([*replies, {WORKER: replaced([{"name": "q"}, {"name": "r"}], path, value)}])
    assert all(isinstance(name, str) for name in consumers.by_queue)


def replaced(value: Any, path: list[int], by: Any) -> Any:
    """Return `value` with the part at `path` replaced; a value without parts is replaced itself."""
    if not path or not value or not isinstance(value, (dict, list)):
        return by
    if isinstance(value, list):
        index = path[0] % len(value)
        return [replaced(part, path[1:], by) if number == index else part for number, part in enumerate(value)]
    index = path[0] % len(value)
    return {
        key: replaced(part, path[1:], by) if number == index else part
        for number, (key, part) in enumerate(value.items())
    }


@pytest.mark.parametrize("time_start", [3_591_000_000.0, 12_345.0, "soon", 10**400])
def test_a_start_that_a_reply_makes_up(time_start: Any) -> None:
    """Celery dates the start of a job in 2083 that it gave to a process that had ended."""
    cluster = Cluster()
    cluster.beat(active=1)
    cluster.tracker.on_reply(WORKER, "active", [{"id": "job-1", "name": "app.add", "time_start": time_start}])
    cluster.wait(10, beating=(WORKER, PID), active=1)
    assert {event["timestamp"][:4] for event in cluster.jobs()} == {"2026"}


@pytest.mark.parametrize("at", [3_591_000_000.0, START + 100_000, 12_345.0, -1, float("nan"), 10**400])
def test_a_clock_that_is_far_off(at: float) -> None:
    """Later events are dated behind an earlier one: one of the year 2083 would move the whole job there."""
    cluster = Cluster()
    cluster.task("sent", queue="q", timestamp=at)
    cluster.wait(2)
    cluster.run("received", "started", "succeeded")
    assert {event["timestamp"][:13] for event in cluster.jobs()} == {"2026-09-21T14"}
