"""Retry and revoke: one way for a single job, for several, and for those of a bulk action.

A retry is prepared, its message is sent, and then two events link both jobs. It runs under an id of its own: workers
drop an id that they have seen revoked, and the attempts of the old job stay its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from sqlalchemy import Connection

from sluice_agent.server.access.audit import AuditEntry, AuditLog
from sluice_agent.server.actions.broker import Broker, BrokerAwayError, RejectedError, Sender, UnconfirmedError
from sluice_agent.server.actions.brokers import Brokers
from sluice_agent.server.actions.exclusion import Exclusion
from sluice_agent.server.actions.jobs import ActedJob, acted_job, link_event, queued_event, state_of
from sluice_agent.server.actions.permission import Permission
from sluice_agent.server.actions.retry import (
    RETRIED,
    REVOKED,
    Retry,
    has_whole_arguments,
    require_state,
    retry_of,
    task_name,
)
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.record.ids import job_uuid
from sluice_agent.server.store import IngestBatch, Store
from sluice_agent.server.store.codes import JOB_STATES
from sluice_agent.server.validation import ReceivedEvent

_STORE_SECONDS = 10.0  # to write the events of a retry, when the store is busy
_log = logging.getLogger("sluice_agent.server.actions")


@dataclass(frozen=True, slots=True)
class Subject:
    """A job that someone acts on, and its broker."""

    job: ActedJob
    broker: Broker


@dataclass(frozen=True, slots=True)
class PreparedRetry:
    """A retry that may be sent."""

    subject: Subject
    retry: Retry


@dataclass(frozen=True, slots=True)
class SentRetry:
    """A retry that was sent, and the id of the new job."""

    prepared: PreparedRetry
    task_id: str


class Senders:
    """Connections for sending, one for each broker: opened when one is needed, and kept until `close`."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._senders: dict[int, Sender] = {}

    def __enter__(self) -> Senders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def to(self, broker: Broker) -> Sender:
        """Return a connection to `broker`. Raises `BrokerAwayError`."""
        sender = self._senders.get(id(broker))
        if sender is None:
            sender = self._senders[id(broker)] = self._stack.enter_context(broker.sending())
        return sender

    def close(self) -> None:
        """Close all connections. The next `to` connects anew."""
        self._senders.clear()
        self._stack.close()


class RetryOpenError(RefusedError):
    """The last retry of a job has not ended: it is retried only if that is asked for."""

    reason = "The last retry of the job has not ended."
    """The same for each job."""


def new_task_id() -> str:
    """Return an id as Celery makes them."""
    return str(uuid4())


class Actions:
    """Acting on the jobs of `store`; `now` is the clock of the events that it writes.

    Its methods raise `RefusedError` with the reason: 400 for a job that can't be acted on, 403 for one that may not be,
    404, 502 if it is unknown whether the broker has the message, and 503 if the broker is away.
    """

    def __init__(
        self, store: Store, brokers: Brokers, permission: Permission, audit: AuditLog, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._brokers = brokers
        self._permission = permission
        self._audit = audit
        self._now = now
        self._exclusion = Exclusion(store)

    def missing_broker(self, reader: Connection, connection: int) -> str | None:
        """Return why no job of a connection can be acted on, None if its broker is known."""
        try:
            self._brokers.of(reader, connection)
        except RefusedError as refusal:
            return refusal.message
        return None

    def prepare_retry(self, uuid: bytes, *, again: bool) -> PreparedRetry:
        """Return the retry of a job. Unless `again`, a job whose last retry has not ended is refused."""
        with self._store.reading() as reader:
            job = _existing(acted_job(reader, uuid))
            require_state(job.record["state"], RETRIED, "retried")
            broker = self._brokers.of(reader, job.connection)
            retried_as = job.record["extensions"].get("retriedAs")
            if not again and isinstance(retried_as, str):
                code = state_of(reader, job_uuid(job.record["connectionId"], retried_as))
                if code is not None and not JOB_STATES[code].is_final:  # None: it ended long ago, and was deleted
                    raise RetryOpenError(
                        400,
                        f"The job was sent again as {retried_as}, which is {JOB_STATES[code].value}: wait for its end, "
                        "or set again.",
                    )
        with _answering():
            self._permission.check(task_name(job.record), job.connection, broker)
            is_whole = has_whole_arguments(job.record)
            stored = None if is_whole else broker.stored_call(job.record["externalId"])
        return PreparedRetry(Subject(job, broker), retry_of(job.record, stored))

    def prepare_revoke(self, uuid: bytes) -> Subject:
        """Return a job that can be revoked."""
        with self._store.reading() as reader:
            job = _existing(acted_job(reader, uuid))
            require_state(job.record["state"], REVOKED, "revoked")
            return Subject(job, self._brokers.of(reader, job.connection))

    def retry(
        self, uuid: bytes, who: str, senders: Senders, *, again: bool, decide_id: Callable[[], str] = new_task_id
    ) -> SentRetry:
        """Retry a job. `decide_id` returns the id of the new job; it is called when nothing more is missing."""
        with self._exclusion.of(uuid):
            prepared = self.prepare_retry(uuid, again=again)
            job, message = prepared.subject.job, prepared.retry.message
            with _answering():
                sender = senders.to(prepared.subject.broker)
                task_id, created_at = decide_id(), self._timestamp()
                events = queued_event(job, prepared.retry, task_id, created_at), link_event(job, "retriedAs", task_id)
                try:
                    sender.send(message, task_id, created_at)
                except UnconfirmedError:
                    senders.close()
                    raise
            self._write(*events)
        self._note(who, "retry", job, f"{message.name} as {task_id}")
        return SentRetry(prepared, task_id)

    def link(self, uuid: bytes, task_id: str) -> bool:
        """Link a job and its retry `task_id`, sent before this process began. Return False if that is not known."""
        with self._store.reading() as reader:
            job = acted_job(reader, uuid)
            new = acted_job(reader, job_uuid(job.record["connectionId"], task_id)) if job is not None else None
        if job is None or new is None:
            return False
        old_id = str(job.record["externalId"])
        self._write(link_event(job, "retriedAs", task_id), link_event(new, "retryOf", old_id))
        return True

    def _write(self, *events: ReceivedEvent) -> None:
        """Write events that link jobs. Their loss is logged: the message is sent."""
        batch = IngestBatch(events, self._now().date().isoformat())
        ids = " and ".join(str(event["job"]["externalId"]) for event in events)
        try:
            self._store.submit(batch).result(_STORE_SECONDS)
        except Exception as error:  # noqa: BLE001 - of the database; the message is sent
            _log.warning("Could not link %s: %r", ids, error)

    def revoke(self, subjects: Sequence[Subject], who: str) -> None:
        """Ask all workers of one broker, that of all `subjects`, not to run these jobs."""
        with _answering():
            subjects[0].broker.revoke([subject.job.record["externalId"] for subject in subjects])
        for subject in subjects:
            self._note(who, "revoke", subject.job, str(subject.job.record["name"]))

    def note(self, entry: AuditEntry) -> None:
        """Add `entry` to the audit log. Its loss is logged: what it describes is done."""
        try:
            self._audit.add(entry)
        except Exception as error:  # noqa: BLE001 - of the database
            _log.warning("%s: %s %s; not in the audit log: %s", entry.who, entry.action, entry.subject, error)

    def _note(self, who: str, action: str, job: ActedJob, detail: str) -> None:
        self.note(AuditEntry(who, action, job.record["id"], job.connection, detail))

    def _timestamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@contextmanager
def _answering() -> Iterator[None]:
    """Turn failures of the broker into refusals."""
    try:
        yield
    except BrokerAwayError as error:
        message = f"Nothing was sent: {error}. Try again when it is back."
        raise RefusedError(503, message, headers={"Retry-After": "5"}) from error
    except UnconfirmedError as error:
        raise RefusedError(502, f"{_sentence(error)}. Look for that id before you retry the job again.") from error
    except RejectedError as error:
        raise RefusedError(400, f"Nothing was sent: {error}.") from error


def _existing(job: ActedJob | None) -> ActedJob:
    if job is None:
        raise RefusedError(404, "Job not found.")
    return job


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]
