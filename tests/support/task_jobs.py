"""Celery tasks as jobs, without workers: the test is the broker, and reports the events of the tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.engine import moves, stale
from sluice_agent.jobs.engine.broker_connection import BrokerConnection
from sluice_agent.jobs.engine.claim import JobCache, claim_runs
from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.jobs.engine.tasks import TaskEngine
from sluice_agent.jobs.store.schema import event_cursor
from sluice_agent.jobs.task_events.follower import held_jobs
from sluice_agent.server.actions.broker import BrokerAwayError, TaskMessage
from sluice_agent.server.store import IngestBatch, Store
from sluice_agent.server.store.retention import EVERYTHING, Keep
from sluice_agent.server.timestamps import timestamp_of
from tests.support.job_attempts import SECOND, Attempts

CONNECTION = "550e8400-e29b-41d4-a716-446655440000"
WORKER = "w1@host"
OPTIONS = EngineOptions(tasks=("shop.*",), task_queues=("mail",))


@dataclass
class MemoryBroker:
    """A broker that keeps what is sent, by the ids of the tasks. `failures` are raised by the next messages."""

    sent: list[tuple[str, TaskMessage]] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    is_away: bool = False

    @contextmanager
    def sending(self) -> Iterator[MemoryBroker]:
        """Connect."""
        self._check()
        yield self

    def send(self, message: TaskMessage, task_id: str, created_at: str | None) -> None:
        """Keep a message, or fail."""
        self._check()
        assert created_at is None, "the worker would not report that it was received"
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append((task_id, message))

    def revoke(self, task_ids: Sequence[str]) -> None:
        """Keep what is revoked."""
        self._check()
        self.revoked += task_ids

    def queue_of(self, task: str) -> str:
        """Return the queue of a task."""
        return f"queue-of-{task}"

    def queue_priority(self, priority: int) -> int:
        """Return the priority of a message."""
        return priority

    def _check(self) -> None:
        if self.is_away:
            raise BrokerAwayError("the broker can't be reached (refused)")


class TaskJobs(Attempts):
    """A database of jobs and one of events, and the engine's half of tasks."""

    def __init__(self, database: Path | str, keep: Keep = EVERYTHING) -> None:
        super().__init__(database)
        self.events = Store(database, now=lambda: self.now, keep=keep)
        self.events.hold_jobs(lambda connections: held_jobs(self.store, connections))
        self.broker = MemoryBroker()
        self.restart()

    def restart(self, options: EngineOptions = OPTIONS) -> None:
        """Begin with another engine, as a new process has."""
        connection: Any = BrokerConnection(self.broker)  # type: ignore[arg-type] # what is not needed is left out
        self.tasks = TaskEngine(self.store, self.events, connection, options, lambda: 0.5)
        self.jobs = JobCache()

    def close(self) -> None:
        """Close both databases."""
        self.events.close()
        self.store.close()

    def task_job(self, task: str = "shop.mail", query: str = "", **settings: Any) -> Job:
        """Make a job of a task."""
        return self.job(endpoint_url=f"celery://{task}{query}", **settings)

    def claim_and_send(self) -> None:
        """Publish what may begin."""
        now = self.store.moment
        with self.store.writing() as writer:
            moves.expire(writer, now)
            moves.end_holds(writer, now)
            claims = claim_runs(writer, self.jobs, 100, now, 300, self.tasks.rules)
        self.tasks.send([claim for claim in claims if claim.call is not None], now)

    def work(self) -> None:
        """Do what the engine does in its rounds, as if no worker took requests."""
        self.claim_and_send()
        now = self.store.moment
        with self.store.writing() as writer:
            moves.lose(writer, now - 60 * SECOND, now, lambda: 0.5)
            for release in (stale.release_unpublished, stale.release_lost, stale.release_all):
                release(writer, now)
        while self.tasks.follow(now):
            pass
        self.tasks.look(now)
        self.tasks.revoke(now)

    def run_of(self, job: Job, **item: Any) -> str:
        """Trigger a run, have it published, and return its id."""
        run_id = self.trigger(job, **item)
        self.work()
        return run_id

    def report(self, run_id: str, state: str, *, task_id: str | None = None, **fields: Any) -> None:
        """Report an event of the task of a run, at the present."""
        extensions = fields.pop("extensions", {})
        event = {
            "type": "job_state_change",
            "timestamp": timestamp_of(self.store.moment),
            "framework": "celery",
            "connectionId": fields.pop("connection", CONNECTION),
            "job": {
                "externalId": task_id or self.row(run_id).task_id,
                "name": "shop.mail",
                "state": state,
                "workerId": WORKER,
                **fields,
                **({"extensions": extensions} if extensions else {}),
            },
        }
        self.ingest(event)

    def begin_task(self, run_id: str) -> None:
        """Report the start of a task, and have it taken into account."""
        self.report(run_id, "active", startedAt=timestamp_of(self.store.moment))
        self.work()

    def beat_of_worker(self) -> None:
        """Report a heartbeat of the worker."""
        self.ingest(
            {
                "type": "worker_heartbeat",
                "timestamp": timestamp_of(self.store.moment),
                "framework": "celery",
                "connectionId": CONNECTION,
                "worker": {"externalId": WORKER, "hostname": "host", "activeJobs": 1, "state": "online"},
            }
        )

    def ingest(self, *events: Any) -> None:
        """Store events."""
        self.events.submit(IngestBatch(list(events), "2026-02-27")).result()

    def cursors(self) -> dict[str, int]:
        """Return the stored cursors."""
        with self.store.reading() as reader:
            return {row.connection: row.position for row in reader.execute(select(event_cursor))}

    def status(self, run_id: str) -> str:
        """Return the status of a run."""
        return str(self.row(run_id).status)
