"""A monitor that joins in mid-stream: it has received nothing before, or only replies about what workers run."""

from __future__ import annotations

import pytest

from tests.support.records import record_of_events
from tests.unit.monitor.cluster import PID, START, WORKER, Cluster, Event

ORDERS = {
    "received late": "received-1 started-1 retried-1 received-2 started-2 retried-2 received-3 started-3 succeeded-3",
    "received early": "received-1 started-1 received-2 retried-1 started-2 received-3 retried-2 started-3 succeeded-3",
}
MESSAGE = {"name": "app.add", "args": "(1, 2)", "kwargs": "{}", "root_id": "job-1"}
DETAILS = {"retried": {"exception": "ValueError('no')"}, "succeeded": {"result": "3", "runtime": 0.005}}


@pytest.fixture
def cluster() -> Cluster:
    """A cluster of one worker, of which nothing is known yet."""
    return Cluster()


def test_the_next_attempt_is_received_before_this_one_is_retried(cluster: Cluster) -> None:
    """A monitor that receives no more than that must not take the next attempt for the one that is retried."""
    cluster.task("received", retries=1)
    cluster.task("retried", exception="ValueError('no')", traceback="")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "retrying active/2 completed/2"


@pytest.mark.parametrize("seconds", [1, 10])
def test_a_standby_that_takes_over(cluster: Cluster, seconds: int) -> None:
    """Runs that a reply listed have ended, as the other monitor reported: an idle worker has not lost them."""
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
    assert cluster.walk("job-3").split()[-1] == "unknown"  # its run was lost
    assert len(set(cluster.ids("job-2"))) == 2


def test_the_active_one_becomes_the_standby_and_takes_over_again(cluster: Cluster) -> None:
    """While another monitor receives the events, silence is no worker's death, and no job of its reports is unknown."""
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
    assert cluster.walk("job-1") == cluster.walk("job-2") == "queued active"  # the other monitor has reported the rest
    assert cluster.walk("job-3") == "queued active unknown"
    cluster.wait(20)
    assert cluster.worker_states().endswith("offline")


@pytest.mark.parametrize("end", ["succeeded", "failed", "retried", "revoked"])
@pytest.mark.parametrize("kinds", [(), ("started",)])
def test_an_attempt_that_was_received_before(cluster: Cluster, kinds: tuple[str, ...], end: str) -> None:
    """An end that is reported as that of attempt 1 would be false for a job in its third attempt."""
    for kind in (*kinds, end):
        cluster.task(kind, exception="ValueError('no')", runtime=0.1, result="3", terminated=True)
    cluster.wait(2)
    assert [event["job"].get("attempt") for event in cluster.jobs()] == [None] * (len(kinds) + 1)


def test_an_attempt_that_a_reply_names(cluster: Cluster) -> None:
    """A reply does not name the attempt that a worker runs; an event that arrives later does."""
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
@pytest.mark.parametrize("command", ["active", "reserved"])
def test_a_reply_about_a_job_that_is_published_with_retries(cluster: Cluster, command: str, kind: str) -> None:
    """The worker has this very attempt, and not one that has published it: that it has waited is reported."""
    cluster.beat()
    event = cluster.event(f"task-{kind}", uuid="job-1", **MESSAGE, parent_id=None, retries=3)
    time_start = cluster.now + 0.001 if command == "active" else None
    cluster.tracker.on_reply(WORKER, command, [{"id": "job-1", "name": "app.add", "time_start": time_start}])
    cluster.tracker.take(event)
    cluster.wait(2)
    assert cluster.walk() == "queued/4"


@pytest.mark.parametrize("end", ["succeeded", "failed", "retried"])
def test_the_next_attempt_is_published_before_the_end_of_one_that_began_earlier(cluster: Cluster, end: str) -> None:
    """A publication by a task process names that process's own attempt as well."""
    cluster.task("sent", retries=1)
    cluster.task(end, exception="ValueError('no')", runtime=0.001, result="3")
    cluster.task("received", retries=1)
    cluster.run("started", "succeeded")
    assert cluster.walk() == "retrying active/2 completed/2"
    assert [event["job"]["attempt"] for event in cluster.jobs()] == [1, 2, 2]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("pause", [0.01, 10.0])
@pytest.mark.parametrize("missed", range(1, 9))
@pytest.mark.parametrize("is_inspected", [False, True])
def test_a_job_that_is_retried_twice(order: str, pause: float, missed: int, is_inspected: bool) -> None:
    """A sidecar deployed while jobs run must report no attempt that never was, and none under another's number."""
    events = events_of(ORDERS[order], pause)
    complete = played(events, 0, is_inspected=False)
    assert complete.walk() == "queued active retrying active/2 retrying/2 active/3 completed/3"
    joined = played(events, missed, is_inspected=is_inspected)
    assert joined.jobs()[-1]["job"]["state"] == "completed"
    if any(event["type"] == "task-received" for event in events[missed:]):
        assert set(joined.ids()) <= set(complete.ids())
    else:  # no event has named the attempt
        assert not any("attempt" in step["job"] for step in joined.jobs())


@pytest.mark.parametrize("missed", range(8))
def test_two_attempts_that_seem_to_run_at_once(missed: int) -> None:
    """A worker may report an attempt as retried when the next runs: the job's end is reported nevertheless."""
    order = "received-1 started-1 received-2 started-2 retried-1 received-3 started-3 retried-2 succeeded-3"
    joined = played(events_of(order, 0.01), missed, is_inspected=False)
    assert joined.jobs()[-1]["job"]["state"] == "completed"
    assert all(step["job"].get("attempt", 1) <= 3 for step in joined.jobs())


def test_a_reply_that_arrives_after_the_events_it_reflects(cluster: Cluster) -> None:
    """It is about the attempt that runs, and not about the next one, which has been received since."""
    cluster.beat(active=1)
    cluster.task("received", retries=1)
    cluster.tracker.on_reply(WORKER, "active", [{"id": "job-1", "name": "app.add", "time_start": START}])
    cluster.task("retried", exception="ValueError('no')", traceback="")
    cluster.run("started", "succeeded")
    assert cluster.walk() == "retrying active/2 completed/2"


def test_a_reply_that_arrives_before_the_events_it_reflects(cluster: Cluster) -> None:
    """The run that the reply lists is the next attempt, not the one that is retried."""
    cluster.beat(active=1)
    retried = cluster.event("task-retried", uuid="job-2", exception="ValueError('no')", traceback="")
    started = cluster.event("task-started", uuid="job-2")
    running = {"id": "job-2", "name": "app.add", "time_start": started["timestamp"]}
    cluster.tracker.on_reply(WORKER, "active", [running])
    cluster.tracker.take(retried)
    cluster.tracker.take(started)
    cluster.run("succeeded", external_id="job-2")
    assert cluster.walk("job-2") == "retrying active completed"  # the number of earlier retries is unknown
    assert record_of_events(cluster.jobs("job-2"))["attempt"] == 2


def events_of(order: str, pause: float) -> list[Event]:
    """Return the job's events as they come off the wire, one after each `pause`."""
    events = []
    for number, step in enumerate(order.split(), 1):
        kind, _, attempt = step.partition("-")
        parent_id = "job-1" if int(attempt) > 1 else None  # Celery makes a job the parent of its own retry
        message = {**MESSAGE, "retries": int(attempt) - 1, "parent_id": parent_id}
        details = message if kind == "received" else DETAILS.get(kind, {})
        sender = {"hostname": WORKER, "pid": PID, "timestamp": START + number * pause}
        events.append({"type": f"task-{kind}", "uuid": "job-1", **sender, **details})
    return events


def played(events: list[Event], missed: int, *, is_inspected: bool) -> Cluster:
    """Return the cluster as a monitor reports it that `missed` so many events; the worker `is_inspected` then."""
    cluster = Cluster()
    cluster.now = events[missed]["timestamp"] - 0.001
    cluster.tracker.tick(cluster.now)
    if is_inspected:
        cluster.beat()
        cluster.tracker.on_reply(WORKER, "active", replies(events[:missed], "started"))
        cluster.tracker.on_reply(WORKER, "reserved", replies(events[:missed], "received"))
    for event in events[missed:]:
        while cluster.now + 1 < event["timestamp"]:
            cluster.wait(1)
            cluster.beat(active=1)
        cluster.now = event["timestamp"]
        cluster.tracker.take(event)
    cluster.wait(10)
    return cluster


def replies(missed: list[Event], last_kind: str) -> list[Event]:
    """Return a worker's reply after the `missed` events: the attempts whose last event is of the kind `last_kind`."""
    attempts: dict[int, tuple[str, float]] = {}
    for event in missed:
        kind = event["type"].removeprefix("task-")
        if kind == "retried":
            del attempts[min(attempts)]
        else:
            attempt = event["retries"] + 1 if kind == "received" else max(attempts)
            attempts[attempt] = kind, event["timestamp"]
    return [
        {"id": "job-1", "name": "app.add", "time_start": at if kind == "started" else None}
        for kind, at in attempts.values()
        if kind == last_kind
    ]
