"""A monitor that joins in mid-stream: it has heard nothing before, or workers have said what they run just then."""

from __future__ import annotations

import json

import pytest

from sluice_agent.server.record import record_of
from tests.unit.monitor.cluster import PID, START, WORKER, Cluster, Event

ORDERS = {
    "received late": "received-1 started-1 retried-1 received-2 started-2 retried-2 received-3 started-3 succeeded-3",
    "received early": "received-1 started-1 received-2 retried-1 started-2 received-3 retried-2 started-3 succeeded-3",
}
MESSAGE = {"name": "app.add", "args": "(1, 2)", "kwargs": "{}", "root_id": "job-1"}
ABOUT = {"retried": {"exception": "ValueError('no')"}, "succeeded": {"result": "3", "runtime": 0.005}}


@pytest.fixture
def cluster() -> Cluster:
    """One worker, of which nothing is known yet."""
    return Cluster()


def test_the_next_attempt_is_received_before_this_one_is_said_to_be_retried(cluster: Cluster) -> None:
    """A monitor that hears no more than that must not take the next attempt for the one that is retried."""
    cluster.task("received", retries=1)
    cluster.task("retried", exception="ValueError('no')", traceback="")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "retrying active/2 completed/2"


@pytest.mark.parametrize("seconds", [1, 10])
def test_a_standby_that_takes_over(cluster: Cluster, seconds: int) -> None:
    """What ran when it asked has ended, as the one before has told: an idle worker is no sign that it was lost."""
    running = [{"id": f"job-{n}", "name": "app.add", "time_start": START - 1} for n in (1, 2, 3)]
    cluster.tracker.on_reply(WORKER, "stats", {"pid": PID})
    cluster.tracker.on_reply(WORKER, "active", running)
    cluster.wait(seconds)
    before = cluster.walk()
    cluster.tracker.on_takeover(cluster.now)
    cluster.tracker.on_reply(WORKER, "active", running[1:])
    cluster.wait(10, beating=(WORKER, PID), active=2)
    cluster.run("succeeded", external_id="job-2")
    cluster.wait(10, beating=(WORKER, PID))
    assert cluster.walk() == before
    assert set(cluster.walk("job-2").split()) == {"active", "completed"}
    assert cluster.walk("job-3").split()[-1] == "unknown"  # this one was lost
    assert len(set(cluster.ids("job-2"))) == 2


def test_the_active_one_becomes_the_standby_and_takes_over_again(cluster: Cluster) -> None:
    """While another hears the workers, their silence is no death; nor is what it has told of their jobs unknown."""
    cluster.beat(active=3)
    for number in (1, 2, 3):
        cluster.run("received", "started", external_id=f"job-{number}")
    cluster.tracker.on_reconnect(cluster.now, 1.0)
    cluster.tracker.enter_standby()
    running = [{"id": f"job-{n}", "name": "app.add", "time_start": START} for n in (1, 2, 3)]
    cluster.tracker.on_reply(WORKER, "active", running[1:])
    cluster.wait(30)
    cluster.tracker.on_takeover(cluster.now)
    cluster.tracker.on_reply(WORKER, "active", running[2:])
    cluster.wait(10, beating=(WORKER, PID), active=1)
    cluster.wait(10, beating=(WORKER, PID))
    assert cluster.worker_states().replace(" idle", "").replace(" busy", "") == "online"
    assert cluster.walk("job-1") == cluster.walk("job-2") == "queued active"  # the other one has told the rest
    assert cluster.walk("job-3") == "queued active unknown"
    cluster.wait(20)
    assert cluster.worker_states().endswith("offline")


@pytest.mark.parametrize("end", ["succeeded", "failed", "retried", "revoked"])
@pytest.mark.parametrize("kinds", [(), ("started",)])
def test_an_attempt_that_was_received_unheard(cluster: Cluster, kinds: tuple[str, ...], end: str) -> None:
    """An end that is reported as that of attempt 1 is none of a job that is known to be in its third attempt."""
    for kind in (*kinds, end):
        cluster.task(kind, exception="ValueError('no')", runtime=0.1, result="3", terminated=True)
    cluster.wait(2)
    assert [event["job"].get("attempt") for event in cluster.jobs()] == [None] * (len(kinds) + 1)


def test_an_attempt_that_an_answer_knows_of(cluster: Cluster) -> None:
    """A worker does not answer which attempt it runs, and an event that comes later names it."""
    cluster.beat(active=1)
    cluster.tracker.on_reply(WORKER, "active", [{"id": "job-1", "name": "app.add", "time_start": START - 1}])
    cluster.tracker.on_reply(WORKER, "reserved", [{"id": "job-2", "name": "app.add"}])
    cluster.wait(10, beating=(WORKER, PID), active=1)
    assert cluster.walk() == "active"
    assert cluster.walk("job-2") == "queued"
    assert not any("attempt" in event["job"] for event in (*cluster.jobs(), *cluster.jobs("job-2")))
    cluster.task("received", retries=2)
    cluster.task("retried", exception="ValueError('no')", traceback="")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "active retrying/2 active/3 completed/3"


@pytest.mark.parametrize("kind", ["sent", "received"])
@pytest.mark.parametrize("what", ["active", "reserved"])
def test_an_answer_that_knows_of_a_job_that_is_published_with_retries(cluster: Cluster, what: str, kind: str) -> None:
    """What the worker has is this very attempt, and none that has published it: that it has waited is reported."""
    cluster.beat()
    event = cluster.event(f"task-{kind}", uuid="job-1", **MESSAGE, parent_id=None, retries=3)
    time_start = cluster.now + 0.001 if what == "active" else None
    cluster.tracker.on_reply(WORKER, what, [{"id": "job-1", "name": "app.add", "time_start": time_start}])
    cluster.tracker.take(event)
    cluster.wait(2)
    assert cluster.walk() == "queued/4"


@pytest.mark.parametrize("end", ["succeeded", "failed", "retried"])
def test_the_next_attempt_is_published_before_the_end_of_one_that_began_unheard(cluster: Cluster, end: str) -> None:
    """What a pool process publishes names its own attempt as well."""
    cluster.task("sent", retries=1)
    cluster.task(end, exception="ValueError('no')", runtime=0.001, result="3")
    cluster.task("received", retries=1)
    cluster.run("started", "succeeded")
    assert cluster.walk() == "retrying active/2 completed/2"
    assert [event["job"]["attempt"] for event in cluster.jobs()] == [1, 2, 2]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("pause", [0.01, 10.0])
@pytest.mark.parametrize("unheard", range(1, 9))
@pytest.mark.parametrize("is_told", [False, True])
def test_a_job_that_is_retried_twice(order: str, pause: float, unheard: int, is_told: bool) -> None:
    """Whoever deploys a sidecar while jobs run sees no attempt that never was, and nothing under another's number."""
    everything = events(ORDERS[order], pause)
    known = played(everything, 0, is_told=False)
    assert known.walk() == "queued active retrying active/2 retrying/2 active/3 completed/3"
    joined = played(everything, unheard, is_told=is_told)
    assert joined.jobs()[-1]["job"]["state"] == "completed"
    if any(event["type"] == "task-received" for event in everything[unheard:]):
        assert set(joined.ids()) <= set(known.ids())
    else:  # nothing has said which attempt it is
        assert not any("attempt" in step["job"] for step in joined.jobs())


@pytest.mark.parametrize("unheard", range(8))
def test_two_attempts_that_seem_to_run_at_once(unheard: int) -> None:
    """A worker may say of an attempt that it is retried when the next runs: the job's end is told all the same."""
    order = "received-1 started-1 received-2 started-2 retried-1 received-3 started-3 retried-2 succeeded-3"
    joined = played(events(order, 0.01), unheard, is_told=False)
    assert joined.jobs()[-1]["job"]["state"] == "completed"
    assert all(step["job"].get("attempt", 1) <= 3 for step in joined.jobs())


def test_an_answer_that_comes_after_the_events_it_knows_of(cluster: Cluster) -> None:
    """It tells of the attempt that runs, and not of the next one, which has been received since."""
    cluster.beat(active=1)
    cluster.task("received", retries=1)
    cluster.tracker.on_reply(WORKER, "active", [{"id": "job-1", "name": "app.add", "time_start": START}])
    cluster.task("retried", exception="ValueError('no')", traceback="")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "retrying active/2 completed/2"


def test_an_answer_that_comes_before_the_events_it_knows_of(cluster: Cluster) -> None:
    """What is said to run by then is the next attempt, not the one that is retried."""
    cluster.beat(active=1)
    retried = cluster.event("task-retried", uuid="job-2", exception="ValueError('no')", traceback="")
    started = cluster.event("task-started", uuid="job-2")
    running = {"id": "job-2", "name": "app.add", "time_start": started["timestamp"]}
    cluster.tracker.on_reply(WORKER, "active", [running])
    cluster.tracker.take(retried)
    cluster.tracker.take(started)
    cluster.run("succeeded", external_id="job-2")
    assert cluster.walk("job-2") == "retrying active completed"  # nobody knows how often it was retried before
    assert record_of(map(json.dumps, cluster.jobs("job-2")))["attempt"] == 2


def events(order: str, pause: float) -> list[Event]:
    """The job's events as they come off the wire, one after each `pause`."""
    found = []
    for number, word in enumerate(order.split(), 1):
        kind, _, attempt = word.partition("-")
        parent_id = "job-1" if int(attempt) > 1 else None  # Celery makes a job the parent of its own retry
        message = {**MESSAGE, "retries": int(attempt) - 1, "parent_id": parent_id}
        about = message if kind == "received" else ABOUT.get(kind, {})
        at = {"hostname": WORKER, "pid": PID, "timestamp": START + number * pause}
        found.append({"type": f"task-{kind}", "uuid": "job-1", **at, **about})
    return found


def played(everything: list[Event], unheard: int, *, is_told: bool) -> Cluster:
    """What is told by a monitor that joins after so many events; it `is_told` what the worker runs then."""
    cluster = Cluster()
    cluster.now = everything[unheard]["timestamp"] - 0.001
    cluster.tracker.tick(cluster.now)
    if is_told:
        cluster.beat()
        cluster.tracker.on_reply(WORKER, "active", answers(everything[:unheard], "started"))
        cluster.tracker.on_reply(WORKER, "reserved", answers(everything[:unheard], "received"))
    for event in everything[unheard:]:
        while cluster.now + 1 < event["timestamp"]:
            cluster.wait(1)
            cluster.beat(active=1)
        cluster.now = event["timestamp"]
        cluster.tracker.take(event)
    cluster.wait(10)
    return cluster


def answers(heard: list[Event], last_word: str) -> list[Event]:
    """What a worker says that it has when these are its events: the attempts of which this is the last word."""
    attempts: dict[int, tuple[str, float]] = {}
    for event in heard:
        kind = event["type"].removeprefix("task-")
        if kind == "retried":
            del attempts[min(attempts)]
        else:
            attempt = event["retries"] + 1 if kind == "received" else max(attempts)
            attempts[attempt] = kind, event["timestamp"]
    return [
        {"id": "job-1", "name": "app.add", "time_start": at if kind == "started" else None}
        for kind, at in attempts.values()
        if kind == last_word
    ]
