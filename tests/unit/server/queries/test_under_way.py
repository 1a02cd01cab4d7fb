"""What runs and what waits, where more jobs are under way than are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.queries.under_way import running_tasks, waiting_jobs
from sluice_agent.server.timestamps import moment_of
from tests.support.local_sluice import local_sluice
from tests.unit.server.events import at, ingest, job_event


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A database in which three jobs wait in two queues, and three run of two tasks."""
    with local_sluice(Path(tmp_path_factory.mktemp("under_way")) / "sluice.db") as server:
        waiting = [
            job_event("queued", second, externalId=f"waits {second}", queue=queue, createdAt=at(second))
            for second, queue in ((1, "a"), (2, "a"), (3, "b"))
        ]
        running = [
            job_event("active", second, externalId=f"runs {second}", name=name, startedAt=at(second))
            for second, name in ((11, "x"), (12, "y"), (13, "x"))
        ]
        ingest(server.client(), *waiting, *running)
        with server.app.state.store.reading() as connection:
            yield connection


def test_jobs_are_counted_by_queue(reader: Connection) -> None:
    """Where jobs wait, and since when, is what a user looks for first."""
    waiting = waiting_jobs(reader, 1)
    texts = texts_of(reader, waiting.by_queue)
    by_queue = {texts[queue]: counted for queue, counted in waiting.by_queue.items() if queue is not None}
    assert by_queue == {"a": (2, moment_of(at(1))), "b": (1, moment_of(at(3)))}
    assert (waiting.total, waiting.is_complete) == (3, True)


def test_those_that_wait_for_the_longest_time_are_looked_at(reader: Connection) -> None:
    """With a million jobs in a queue the page would take seconds, or show the youngest wait as the oldest."""
    waiting = waiting_jobs(reader, 1, looked_at=2)
    assert list(waiting.by_queue.values()) == [(2, moment_of(at(1)))]
    assert (waiting.total, waiting.is_complete, waiting.last) == (3, False, moment_of(at(2)))


def test_running_jobs_are_counted_by_task(reader: Connection) -> None:
    """The job that hangs would be hidden among others of its task."""
    running = running_tasks(reader, 1, limit=5)
    assert [(task.name, task.jobs, task.external_id) for task in running.tasks] == [
        ("x", 2, "runs 11"),
        ("y", 1, "runs 12"),
    ]
    assert [task.name for task in running_tasks(reader, 1, limit=1).tasks] == ["x"]
    few = running_tasks(reader, 1, limit=5, looked_at=1)
    assert [(task.jobs, task.external_id) for task in few.tasks] == [(1, "runs 11")]
    assert (few.total, few.is_complete) == (3, False)
