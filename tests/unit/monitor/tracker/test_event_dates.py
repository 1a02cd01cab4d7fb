"""Clocks that disagree, or are set: a job's events are dated in the order in which they happened, and end as it did."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.server.record.summary import walk
from tests.support.records import record_of_events, steps_of
from tests.unit.monitor.cluster import PID, START, WORKER, Cluster

ONE, TWO, PRODUCER = (WORKER, PID), ("celery@two", 22), ("gen7@host", 7)
NO = {"exception": "ValueError('no')", "traceback": ""}

LIVES = {
    # Events and their workers, in the order in which they happen, and the job's states. "lost": worker 1 is killed.
    "succeeds": ("received-1 started-1 succeeded-1", "queued active completed"),
    "fails": ("received-1 started-1 failed-1", "queued active failed"),
    "is terminated": ("received-1 started-1 revoked-1", "queued active cancelled"),
    "is refused": ("revoked-1", "queued cancelled"),
    "is no task": ("unknown-1", "queued failed"),
    "is retried": (
        "received-1 started-1 retried-1 again received-1 started-1 succeeded-1",
        "queued active retrying active completed",
    ),
    "is retried elsewhere": (
        "received-1 started-1 retried-1 again received-2 started-2 failed-2",
        "queued active retrying active failed",
    ),
    "is received elsewhere before it is reported to be retried": (
        "received-1 started-1 again received-2 started-2 retried-1 succeeded-2",
        "queued active retrying active completed",
    ),
    "goes back to its queue": (
        "received-1 started-1 rejected-1 received-2 started-2 succeeded-2",
        "queued active queued active completed",
    ),
    "outlives its worker": (
        "received-1 started-1 received-2 started-2 succeeded-2 lost",
        "queued active unknown active completed",
    ),
    "is lost and runs again": (
        "received-1 started-1 lost received-2 started-2 succeeded-2",
        "queued active unknown active completed",
    ),
    "is published again": (
        "received-1 started-1 succeeded-1 published received-2 started-2 failed-2",
        "queued active completed queued active failed",
    ),
    "is replaced": (
        "received-1 started-1 replaced received-2 started-2 succeeded-2",
        "queued active queued active completed",
    ),
}
skews = st.sampled_from([0.0, 1e-6, 0.001, 1.5, 5.0, 3_600.0]) | st.floats(-7_200, 7_200)
pauses = st.sampled_from([0.0, 1e-6, 0.05, 1.2, 3.0])


def played(life: str, skew: dict[tuple[str, int], float], pause: list[float]) -> Cluster:
    """Return a cluster whose monitor received the events of a `life`, every one after a `pause`."""
    cluster = Cluster()
    cluster.beat(*ONE, active=1)
    cluster.beat(*TWO, active=1)
    attempt, name = 0, "app.add"
    is_lost = False

    def send(kind: str, sender: tuple[str, int], **fields: object) -> None:
        cluster.task(kind, "job-1", *sender, timestamp=cluster.now + skew[sender], **fields)

    send("sent", PRODUCER, queue="q")
    for step, seconds in zip(life.split(), [*pause, *[0.1] * 20], strict=False):
        end = cluster.now + seconds
        while cluster.now + 1 < end:
            cluster.wait(1)
            for sender in {TWO} if is_lost else {ONE, TWO}:
                cluster.beat(*sender, active=1)
        cluster.now = max(end, cluster.now)
        is_lost = is_lost or step == "lost"
        kind, _, number = step.partition("-")
        worker = TWO if number == "2" else ONE
        if kind in ("again", "replaced", "published"):
            attempt = attempt + 1 if kind == "again" else 0
            name = "app.other" if kind == "replaced" else name
            if kind == "published":
                send("sent", PRODUCER, queue="q")
        elif kind == "lost":
            cluster.wait(20, beating=TWO, active=1)
        elif kind == "received":
            send("received", worker, retries=attempt, name=name)
        elif kind == "unknown":
            send("failed", worker, exception="NotRegistered('app.add')")
        else:
            fields = {"succeeded": {"runtime": seconds}, "rejected": {"requeue": True}, "revoked": {"terminated": True}}
            send(kind, worker, **(NO if kind in ("failed", "retried") else fields.get(kind, {})))
    cluster.wait(3, beating=TWO)
    return cluster


def faults(cluster: Cluster, states: str) -> list[str]:
    """Return what a server shows of the job that differs from its life, in sentences."""
    task_events = cluster.jobs()
    walked = walk(steps_of(task_events))
    problems = [f"{step.state} is no legal step" for step in walked.excluded]
    seen, last = " ".join(state for state, _ in walked.states), task_events[-1]["job"]["state"]
    problems += [f"the walk is {seen}"] * (seen != states)
    problems += [f"it ends as {last}"] * (not states.endswith(last))
    moments = [event["timestamp"] for event in task_events]
    problems += ["two events of one instant"] * (len(set(moments)) != len(moments))
    for event in task_events:
        times = [event["job"].get(name) for name in ("createdAt", "startedAt", "completedAt")]
        problems += [f"{time} is after {event['timestamp']}" for time in times if time and time > event["timestamp"]]
    return problems


@given(
    st.sampled_from(sorted(LIVES)),
    st.tuples(skews, skews, skews),
    st.lists(pauses, min_size=6, max_size=6),
)
def test_a_jobs_walk_is_legal_and_ends_as_the_job_did(
    life: str, skew: tuple[float, float, float], pause: list[float]
) -> None:
    """Hosts whose clocks disagree would otherwise have jobs that ended shown as running, or as lost, for ever."""
    events, states = LIVES[life]
    cluster = played(events, dict(zip((PRODUCER, ONE, TWO), skew, strict=True)), pause)
    assert faults(cluster, states) == []
    assert not cluster.dropped


@pytest.mark.parametrize("life", ["succeeds", "fails", "is terminated", "is retried"])
def test_a_producer_that_is_ahead(life: str) -> None:
    """1.5 s are enough for a job that waited for 1.2 s and ran for 0.1 s to be active for ever."""
    events, states = LIVES[life]
    cluster = played(events, {PRODUCER: 1.5, ONE: 0.0, TWO: 0.0}, [1.2, 0.0, 0.1, 0.0, 0.0, 0.1])
    assert faults(cluster, states) == []
    record = record_of_events(cluster.jobs())
    assert record["durationMs"] in (100, 101)  # and it ran for as long as it did


def test_a_worker_that_is_ahead_and_lost() -> None:
    """Its job completes on another worker, whose clock is right: the job is not lost."""
    events, states = LIVES["outlives its worker"]
    cluster = played(events, {PRODUCER: 0.0, ONE: 5.0, TWO: 0.0}, [0.1] * 6)
    assert faults(cluster, states) == []


def test_a_clock_that_is_set_back_while_a_job_runs() -> None:
    """The job would otherwise end before it started, and seem to run for ever: it ended when its runtime was over."""
    cluster = Cluster()
    cluster.run("received", "started")
    began = cluster.now
    cluster.task("succeeded", timestamp=began - 3_600, runtime=5.0, result="3")
    assert faults(cluster, "queued active completed") == []
    record = record_of_events(cluster.jobs())
    assert record["durationMs"] == 5_000


def test_times_that_agree_are_reported_as_they_are() -> None:
    """A user who compares them with a worker's log must find the same."""
    cluster = Cluster()
    cluster.task("sent", queue="q", timestamp=START + 1)
    cluster.wait(2)
    for kind, at in (("received", 2.0), ("started", 2.25), ("succeeded", 3.5)):
        cluster.task(kind, timestamp=START + at)
    moments = [event["timestamp"][-9:] for event in cluster.jobs()]
    assert moments == ["1.000000Z", "2.250000Z", "3.500000Z"]
