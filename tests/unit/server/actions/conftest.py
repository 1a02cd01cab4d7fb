"""A store with jobs to act on, and a broker that keeps what is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from secrets import token_hex
from typing import Any
from uuid import uuid4

import pytest

from sluice_agent.server.access.audit import AuditLog
from sluice_agent.server.actions.acting import Actions
from sluice_agent.server.actions.broker import BrokerAwayError, StoredCall, TaskMessage
from sluice_agent.server.actions.brokers import Brokers
from sluice_agent.server.actions.bulk import BulkRunner, Pace
from sluice_agent.server.actions.jobs import acted_job
from sluice_agent.server.actions.ledger import BulkAction, Kind, Ledger, NewAction
from sluice_agent.server.actions.matching import matching_jobs
from sluice_agent.server.actions.permission import Permission
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.record.ids import job_uuid
from sluice_agent.server.record.record import Record
from sluice_agent.server.store import IngestBatch, Store
from sluice_agent.server.store.lease import Lease
from sluice_agent.server.timestamps import to_moment
from tests.unit.server.events import CONNECTION, job_event

START = datetime(2026, 2, 27, 10, 10, tzinfo=timezone.utc)
WHOLE = {"args": [1], "kwargs": {"a": "b"}, "argsWhole": True, "message": {"serializer": "json"}}


class RecordedBroker:
    """A broker that keeps what is sent. `failures` are raised by the next messages, one each; `away` by any call."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, TaskMessage]] = []
        self.revoked: list[list[str]] = []
        self.calls: dict[str, StoredCall] = {}
        self.failures: list[Exception] = []
        self.is_away = False
        self.connections = 0
        self.on_send: Callable[[str], object] = lambda _: None

    def registered_tasks(self) -> frozenset[str]:
        self._check()
        return frozenset({"app.tasks.send_email"})

    def stored_call(self, task_id: str) -> StoredCall | None:
        return self.calls.get(task_id)

    def revoke(self, task_ids: Sequence[str]) -> None:
        self._check()
        self.revoked.append(list(task_ids))

    @contextmanager
    def sending(self) -> Iterator[RecordedBroker]:
        self._check()
        self.connections += 1
        yield self

    def send(self, message: TaskMessage, task_id: str, created_at: str) -> None:
        self.on_send(task_id)
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append((task_id, message))

    def _check(self) -> None:
        if self.is_away:
            raise BrokerAwayError("the broker can't be reached (refused)")


class Shop:
    """A store of jobs and everything that acts on them."""

    def __init__(self, database: Path | str) -> None:
        self.time = START
        self.store = Store(database, now=self.now)
        self.broker = RecordedBroker()
        self.revoked: set[str] = set()
        permission = Permission((), lambda _: True, lambda: 0.0)
        self.log = AuditLog(self.store.engine, self.now)
        self.actions = Actions(self.store, Brokers(default=self.broker), permission, self.log, self.now)
        self.ledger = Ledger(self.store, self.now)

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def add(self, *events: dict[str, Any]) -> None:
        """Ingest events."""
        self.store.submit(IngestBatch(events, "2026-02-27")).result(10)

    def add_job(self, job: str = "job-1", state: str = "failed", **extensions: Any) -> bytes:
        """Ingest the events of a job that ran, with its call, and return Sluice's id of it."""
        fields = {"externalId": job, "queue": "emails"}
        self.add(
            job_event("queued", 0, createdAt="2026-02-27T10:00:00.000Z", extensions={**WHOLE, **extensions}, **fields),
            job_event("active", 1, attempt=1, **fields),
        )
        if state != "active":
            self.add(job_event(state, 2.5, attempt=1, error="ValueError: no", **fields))
        return job_uuid(CONNECTION, job)

    def record(self, uuid: bytes) -> Record:
        """Return the record of a job."""
        with self.store.reading() as reader:
            job = acted_job(reader, uuid)
        assert job is not None
        return job.record

    def select(self, action: BulkAction) -> list[bytes]:
        """Return the jobs of a bulk action."""
        with self.store.reading() as reader:
            wanted = JobFilter.from_json(action.wanted).within_states(action.kind.states)
            return matching_jobs(reader, wanted, action.connections, self.store.moment)

    def runner(
        self, select: Callable[[BulkAction], Sequence[bytes]] | None = None, lease: Lease | None = None
    ) -> BulkRunner:
        """Return a new runner, as a new process has it."""
        pace = Pace(poll=0.01, first_pause=0.01, longest_pause=0.02)
        return BulkRunner(self.actions, self.ledger, lease, select or self.select, self.revoked.__contains__, pace)

    def lease(self, seconds: float) -> Lease:
        """Return the lease of bulk actions as another process has it."""
        return Lease(self.store.writing, "bulk actions", token_hex(8), seconds, lambda: to_moment(self.now()))

    def begin(self, kind: Kind = Kind.RETRY, *, again: bool = False, **wanted: Any) -> str:
        """Create a bulk action, and return its id."""
        action = NewAction(str(uuid4()), kind, "key 1", [1], wanted, again)
        assert self.ledger.create(action)
        return action.id

    def progress(self, action: str) -> dict[str, Any]:
        """Return an action with its counts."""
        progress = self.ledger.progress(action)
        assert progress is not None
        return progress


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A store with a broker."""
    shop = Shop(tmp_path / "sluice.db")
    yield shop
    shop.store.close()
