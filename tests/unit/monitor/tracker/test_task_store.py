"""The store of tasks: bounded in number, and every task in bytes."""

from __future__ import annotations

import gc
import tracemalloc
import uuid
from dataclasses import fields

import pytest

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.model import JobState
from sluice_agent.monitor.tracker.task_store import BYTES_PER_ENDED_TASK, BYTES_PER_TASK, RECENT, TaskStore
from sluice_agent.monitor.tracker.tasks import MessageVersion, Process, Run, Task
from tests.unit.monitor.cluster import CONNECTION, START, Cluster, Tracker

TASKS = 1_000


def test_the_oldest_is_forgotten() -> None:
    """A monitor lives for months beside a cluster that never stops."""
    cluster = Cluster(remember=3)
    for number in range(5):
        cluster.task("received", f"job-{number}")
    cluster.task("started", "job-2")
    cluster.task("received", "job-5")
    cluster.task("started", "job-0")
    cluster.task("started", "job-2")
    assert cluster.tracker.remembered == 3
    assert cluster.jobs("job-0")[-1]["job"]["name"] == "unknown"
    assert cluster.jobs("job-2")[-1]["job"]["name"] == "app.add"


def test_what_is_forgotten_runs_nowhere() -> None:
    """Tasks that end without an event must not stay in the records of their workers."""
    cluster = Cluster(remember=10)
    cluster.beat(active=1)
    for number in range(1_000):
        cluster.run("received", "started", external_id=f"job-{number}")
    assert len(cluster.tracker.workers()["celery@one"].running) <= 10


def test_a_task_that_comes_again_for_ever() -> None:
    """A job that kills every worker that receives it must not fill the monitor's memory, nor lose count of its runs."""
    task, worker = Task("job-1"), Process("celery@one", 11)
    for _ in range(1_000):
        task.add_run(worker)
    assert [run.receipt for run in task.runs] == [*range(992, 1_000)]


def test_a_task_whose_every_other_attempt_is_received() -> None:
    """The runs that are inferred from others count against the same limit."""
    cluster = Cluster()
    for attempt in range(100):
        cluster.task("received", retries=2 * attempt + 1)
        cluster.task("retried", exception="ValueError('no')")
    task = cluster.tracker._tasks.get("job-1")
    assert task is not None
    assert len(task.runs) == 8


@pytest.mark.parametrize(("recent", "maximum"), [(TASKS, BYTES_PER_TASK), (1, BYTES_PER_ENDED_TASK)])
def test_bytes_per_task(recent: int, maximum: int) -> None:
    """The figures that users plan a container's memory with."""
    sink = Sink(emit=lambda _: None, drop=lambda _: None, connection_id=CONNECTION)
    tracker = Tracker(sink, remember=TASKS, recent=recent)
    tracker.tick(START)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(TASKS * 2):
        external_id, root_id, parent_id = (str(uuid.uuid4()) for _ in range(3))
        fields = {"hostname": f"celery@{number % 20}", "pid": 1, "timestamp": START + number, "uuid": external_id}
        ids = {"root_id": root_id, "parent_id": parent_id}
        message = {**fields, "name": f"app.task_{number % 50}", "args": f"({number},)", "retries": 0, **ids}
        tracker.take({**message, "type": "task-received", "eta": f"2100-01-01T00:00:00.{number:06}"})
        tracker.take({**fields, "type": "task-started"})
        tracker.take({**fields, "type": "task-succeeded", "runtime": 0.5})
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert TASKS * 0.99 <= tracker.remembered <= TASKS
    assert maximum / 2 < (after - before) / TASKS < maximum


def test_a_late_event_of_a_task_that_ended_long_ago() -> None:
    """A failure that corrects a success would have another id, name or start than the events before it."""
    walks = []
    for recent in (RECENT, 1):
        cluster = Cluster(recent=recent)
        cluster.task("sent", routing_key="celery", exchange="")
        cluster.task("received", eta="2100-01-01T00:00:00", root_id="root", parent_id="parent")
        cluster.run("started", "succeeded")
        cluster.run("received", "started", external_id="job-2")
        cluster.run("received", "started", external_id="job-3")
        cluster.run("failed")
        cluster.run("received", "started")
        walks.append(cluster.jobs())
    assert walks[0] == walks[1]
    assert [event["job"]["state"] for event in walks[0]][-2:] == ["failed", "active"]


def test_an_ended_task_keeps_every_field() -> None:
    """A field that is added to the record of a task, and not to its packed form, would be lost after a while."""
    task = Task("job-1", "app.add", "celery", 2, "root", "parent", "2100-01-01", "2101-01-01", 3, 1.5)
    task.published, task.published_kind, task.received, task.received_kind = (
        MessageVersion(1, 2),
        4,
        MessageVersion(1, 3),
        5,
    )
    task.is_queue_certain = task.is_missing = task.is_refused = True
    task.record_wait(MessageVersion(1, 4), 2.5)
    task.last_run = Run(
        *(Process("celery@one", 11), 2, 3, True, 1, "app.old", 3.5, 4.5, JobState.FAILED, 5.5, 6.5, True, False)
    )
    store = TaskStore(2, on_forget=lambda _: None, recent=1)
    (stored := store.get_or_create("job-1")).last_run = task.last_run
    for field in fields(Task):
        setattr(stored, field.name, getattr(task, field.name))
    store.get_or_create("job-2")
    assert isinstance(store._older["job-1"], bytes)
    restored = store.get("job-1")
    assert restored is not None
    assert restored is not stored
    not_packed = {"pending", "successor", "publication", "previous_reported_at", "last_run", "encoder", "previous"}
    not_packed.add("is_plain")  # no further event of it is a plain one
    for kept, got in ((task, restored), (task.last_run, restored.last_run)):
        for field in fields(kept):
            if field.name not in not_packed:
                assert getattr(got, field.name) == getattr(kept, field.name) != field.default, field.name
