"""The writer's memory: a job that it no longer holds goes on as one that it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from sqlalchemy import Engine, select

from sluice_agent.server.record.summary import Summary, summary_of
from sluice_agent.server.store import IngestBatch, schema
from sluice_agent.server.store.batch import BatchWriter
from sluice_agent.server.store.database import connect_file, open_database
from sluice_agent.server.store.memory import Memory
from sluice_agent.server.store.sqlite import SqliteDriver
from sluice_agent.server.store.steps import StoredStep, decode_step
from tests.support.examples import examples
from tests.unit.server.events import at, job_event, with_id
from tests.unit.server.lives import lives, plain_life, reports

_numbers = count(1)
_TABLES = (schema.job, schema.tally, schema.rollup, schema.worker_rollup, schema.usage)


class CountingDriver(SqliteDriver):
    """A driver that counts the steps that it reads."""

    read = 0

    def steps_of(self, jobs: Sequence[int]) -> list[StoredStep]:
        steps = super().steps_of(jobs)
        self.read += len(steps)
        return steps


class File:
    """A database file, and what writes to it."""

    def __init__(self, path: Path) -> None:
        self.engine: Engine = open_database(path)
        self.driver = CountingDriver(connect_file(path))
        self.writer = BatchWriter(self.driver)

    def close(self) -> None:
        self.driver.close()
        self.engine.dispose()

    def write(self, events: Sequence[dict[str, Any]], *, forgets: bool = False) -> str:
        """Write each of `events` in a transaction, to a connection of their own, and return its id. `forgets`: nothing
        is in memory then."""
        self.writer.memory = Memory(self.driver)
        connection_id = str(UUID(int=next(_numbers)))
        for event in events:
            if forgets:
                self.writer.forget()
            with self.driver.transaction():
                self.writer.write([IngestBatch([event | {"connectionId": connection_id}], "2026-02-27")], now=0)
        return connection_id

    def rows(self, table: Any, connection_id: str) -> list[Any]:
        own = select(schema.connection.c.number).where(schema.connection.c.id == connection_id).scalar_subquery()
        columns = [
            column for column in table.c if column.name not in {"connection", "number", "uuid", "fold", "parent"}
        ]
        with self.engine.connect() as reader:
            return sorted(map(tuple, reader.execute(select(*columns).where(table.c.connection == own))), key=repr)

    def summaries(self, connection_id: str) -> tuple[Summary | None, Summary]:
        """Return the summary in the fold of the only job of a connection, and that of its steps."""
        own = select(schema.connection.c.number).where(schema.connection.c.id == connection_id).scalar_subquery()
        with self.engine.connect() as reader:
            job = reader.execute(select(schema.job).where(schema.job.c.connection == own)).one()
            query = select(schema.step.c.body, schema.label.c.text).join(
                schema.label, schema.label.c.number == schema.step.c.name
            )
            steps = [
                decode_step(body, connection_id, job.external_id, name)
                for body, name in reader.execute(query.where(schema.step.c.job == job.number))
            ]
        return job.fold and Summary.from_bytes(job.fold), summary_of(steps)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[File]:
    with closing(File(tmp_path_factory.mktemp("memory") / "s.db")) as file:
        yield file


@settings(max_examples=examples(40), deadline=None)
@given(lives() | reports())
def test_a_job_goes_on_as_if_it_had_stayed_in_memory(file: File, events: list[dict[str, Any]]) -> None:
    """A job that waits for long, or a restart of the server, would otherwise leave another state or other counts."""
    events = [with_id(event) for event in events]
    connection_ids = [file.write(events), file.write(events, forgets=True)]
    for table in _TABLES:
        kept, forgotten = (file.rows(table, connection_id) for connection_id in connection_ids)
        assert kept == forgotten, table.name


def test_a_job_of_a_far_future_goes_on(file: File) -> None:
    """A client with a wrong clock would otherwise have its batches refused, and those that are written with them."""
    times = [f"2900-01-01T00:00:0{second}Z" for second in range(3)]
    events = [
        with_id(job_event(state, 0, externalId="job", createdAt=times[0])) | {"timestamp": time}
        for state, time in zip(("queued", "active", "completed"), times, strict=True)
    ]
    kept, forgotten = (file.rows(schema.job, file.write(events, forgets=forgets)) for forgets in (False, True))
    assert kept == forgotten


def test_a_job_of_many_steps_is_not_walked_through_for_each(file: File) -> None:
    """A task that is retried for days would otherwise slow down the server with each attempt."""
    events = [event for event in plain_life(20) if "progress" not in event["job"]]
    before = file.driver.read
    connection_ids = [file.write(events, forgets=forgets) for forgets in (False, True)]
    assert file.driver.read - before < 16 * 16
    assert file.rows(schema.job, connection_ids[0]) == file.rows(schema.job, connection_ids[1])
    for connection_id in connection_ids:
        fold, summary = file.summaries(connection_id)
        assert fold == summary


def test_long_errors_do_not_fill_the_memory(file: File) -> None:
    """An outage in which all jobs are retried would otherwise take hundreds of megabytes, and end the server."""
    connection_id = str(UUID(int=next(_numbers)))
    jobs = [
        job_event("retrying", 0, externalId=f"job-{number}", connectionId=connection_id, error="E" * 1_000)
        for number in range(20)
    ]
    file.writer.memory = Memory(file.driver, most_bytes=5_000)

    def steps_read(event: dict[str, Any]) -> int:
        before = file.driver.read
        with file.driver.transaction():
            file.writer.write([IngestBatch([event], "2026-02-27")], now=0)
        return file.driver.read - before

    assert sum(map(steps_read, jobs)) == 0
    assert sum(map(steps_read, jobs[-4:])) == 0  # the others were removed
    assert sum(map(steps_read, jobs[:16])) == 16


def test_a_late_step_of_a_long_job_is_in_its_fold(file: File) -> None:
    """Each later event would otherwise go on from a state that the job's events contradict."""
    late = job_event("active", 4.5, attempt=3, startedAt=at(4.5), workerId="celery@b", queue="q")
    fold, summary = file.summaries(file.write([*plain_life(20), late], forgets=True))
    assert fold == summary


def test_a_job_of_too_many_steps_goes_on_without_walks(file: File) -> None:
    """A task that is retried for ever would otherwise stop all others for seconds, at each event that is late; and its
    row would differ from its record if anything of that event were kept."""
    connection_id = str(UUID(int=next(_numbers)))
    events = [event for event in plain_life(20) if "progress" not in event["job"]]
    late = job_event("active", 4.5, attempt=3, startedAt=at(4.5))
    report = job_event("active", 600, attempt=99, startedAt=at(600), progress=0.5)
    moved = job_event("queued", 700, attempt=100, queue="another")
    ended = job_event("completed", 720, attempt=100, queue="another")
    stale = job_event("active", 800, attempt=2)

    def write(*events: dict[str, Any], walked_steps: int = 20) -> tuple[int, int]:
        file.writer.memory = Memory(file.driver, walked_steps=walked_steps)
        with file.driver.transaction():
            own = [event | {"connectionId": connection_id} for event in events]
            (result,), _ = file.writer.write([IngestBatch(own, "2026-02-27")], now=0)
        fold, summary = file.summaries(connection_id)
        assert fold == summary
        return result.accepted, result.skipped

    assert write(*events) == (len(events), 0)
    before = file.driver.read
    assert write(late, report) == (0, 2)
    assert write(ended, moved) == (2, 0)  # what follows is taken, in whatever order it arrives together
    assert write(stale) == (1, 0)  # and left out, as it contradicts the job
    assert file.driver.read == before
    assert file.summaries(connection_id)[1].state == "completed"
    assert write(late, walked_steps=1_000) == (1, 0)


def test_large_arguments_do_not_fill_the_memory(file: File) -> None:
    """Thousands of jobs that report progress, each event with its long arguments, would otherwise end the server."""
    connection_id = str(UUID(int=next(_numbers)))
    file.writer.memory = Memory(file.driver, most_bytes=200_000)

    def steps_read(number: int, seconds: float) -> int:
        before = file.driver.read
        extensions = {"args": "A" * 1_000}
        fields = {"externalId": f"job-{number}", "extensions": extensions}
        event = job_event("active", seconds, startedAt=at(0), progress=seconds / 100, **fields)
        with file.driver.transaction():
            file.writer.write([IngestBatch([event | {"connectionId": connection_id}], "2026-02-27")], now=0)
        return file.driver.read - before

    assert sum(steps_read(number, 1) for number in range(40)) == 0
    assert sum(steps_read(number, 2) for number in range(39, 35, -1)) == 0  # they are kept as they are
    assert sum(steps_read(number, 3) for number in range(20)) == 20  # the others' progress is read
    assert sum(steps_read(number, 3) for number in range(15, 20)) == 0
