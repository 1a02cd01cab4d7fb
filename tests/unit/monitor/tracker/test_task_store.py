"""The store of tasks: bounded in number, and every task in bytes."""

from __future__ import annotations

import gc
import tracemalloc
import uuid

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.monitor.tracker.task_store import BYTES_PER_TASK, Process, Task
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


def test_bytes_per_task() -> None:
    """The figure that users plan a container's memory with."""
    tracker = Tracker(Sink(emit=lambda _: None, drop=lambda _: None, connection_id=CONNECTION), remember=TASKS)
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
    assert tracker.remembered == TASKS
    assert BYTES_PER_TASK / 2 < (after - before) / TASKS < BYTES_PER_TASK
