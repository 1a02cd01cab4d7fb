"""A trigger: the checks that a wanted run passes, in their order, and the run that is made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select

from sluice_agent.jobs import cron
from sluice_agent.jobs.definitions.jobs import Change, Job
from sluice_agent.jobs.json_text import canonical, parse
from sluice_agent.jobs.runs.admission import check_rate, find_duplicate
from sluice_agent.jobs.runs.dependencies import Dependent, are_met
from sluice_agent.jobs.runs.payload import Payload, check_payload, payload_of
from sluice_agent.jobs.runs.requests import LONGEST_TTL, TriggerItem
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.ids import new_id
from sluice_agent.jobs.store.schema import batch, run, run_tag
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.timestamps import to_datetime, to_moment

MANUAL = "manual"
CRON = "cron"

_SECOND = 1_000_000  # microseconds
_SLACK = 60 * _SECOND  # by which a client's clock may be behind: such a time is the present
_MOST_TAGS = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """A run that is wanted, checked as far as it can be without the database."""

    payload: Payload
    priority: int
    tags: dict[str, str]
    metadata: dict[str, str]
    scheduled_at: int | None
    ttl_secs: int
    concurrency_key: str | None
    idempotency_key: str | None
    batch_id: str | None = None
    triggered_by: str = MANUAL
    fire_at: int | None = None
    """The minute for which cron makes it."""
    continuation_of: str | None = None
    """The run that it goes on with."""
    lineage_depth: int = 0
    """How many runs went before it so."""
    debug_mode: bool = False
    """Whether the heads of its requests are kept."""
    run_id: str | None = None
    """The id that it gets; None: any. A run that has it already is the one that is wanted."""


@dataclass(frozen=True, slots=True)
class Triggered:
    """The run that a trigger has made, or the one that was there: by its id or key, or by its payload."""

    row: Row[Any]
    is_hit: bool = False
    is_duplicate: bool = False

    @property
    def is_new(self) -> bool:
        """True if the trigger has made it."""
        return not self.is_hit and not self.is_duplicate


@dataclass(frozen=True, slots=True)
class Plan:
    """When a run may begin, and until when it must have."""

    scheduled_at: int | None
    expires_at: int | None


def want(job: Job, item: TriggerItem, key: str | None, now: int) -> Wanted:
    """Return the run that `item` asks of `job`, with this idempotency key.

    Raises `RefusedError` (400) if it can't be, also if its payload does not fit the schema.
    """
    scheduled_at = item.scheduled_at
    if scheduled_at is not None:
        if scheduled_at < now - _SLACK:
            raise _refused("scheduled_at", "is in the past")
        if scheduled_at > now + LONGEST_TTL * _SECOND:
            raise _refused("scheduled_at", "is more than 30 days ahead")
    tags = job.settings.tags | item.tags
    if len(tags) > _MOST_TAGS:
        raise _refused("tags", f"are more than {_MOST_TAGS} together with those of the job")
    payload = payload_of(item.payload)
    check_payload(job, payload)
    if item.debug_mode:
        check_has_heads(job)
    return Wanted(
        payload=payload,
        priority=item.priority,
        tags=tags,
        metadata={**_default_metadata(job, payload), **item.metadata},
        scheduled_at=scheduled_at,
        ttl_secs=item.ttl_secs,
        concurrency_key=item.concurrency_key or None,
        idempotency_key=key,
        debug_mode=item.debug_mode,
    )


def want_by_cron(job: Job, firing: int) -> Wanted:
    """Return the run that the job's cron expression asks for in the minute `firing`."""
    payload = payload_of(job.settings.cron_payload)
    return Wanted(
        payload=payload,
        priority=0,
        tags=job.settings.tags,
        metadata=_default_metadata(job, payload),
        scheduled_at=None,
        ttl_secs=0,
        concurrency_key=None,
        idempotency_key=None,
        triggered_by=CRON,
        fire_at=firing,
    )


def want_again(job: Job, row: Row[Any], payload: Any = None) -> Wanted:
    """Return a run with what that of `row` was given, or with another `payload`.

    Raises `RefusedError` (400) if the job, with its settings of now, does not take the payload.
    """
    given = payload_of(parse(row.payload.encode()) if payload is None else payload)
    check_payload(job, given)
    return Wanted(
        payload=given,
        priority=row.priority,
        tags={} if row.tags is None else parse(row.tags.encode()),
        metadata={} if row.metadata is None else parse(row.metadata.encode()),
        scheduled_at=None,
        ttl_secs=0,
        concurrency_key=row.concurrency_key,
        idempotency_key=None,
    )


def _default_metadata(job: Job, payload: Payload) -> dict[str, str]:
    own = {} if payload.dependency_key is None else {"dependency_key": payload.dependency_key}
    return {**job.settings.default_run_metadata, **own}


def plan_of(job: Job, wanted: Wanted, now: int) -> Plan:
    """Return when a run may begin: at the time that is wanted, or the next one in the job's window. Its expiry is
    counted from then."""
    settings = job.settings
    start = max(now, wanted.scheduled_at or now)
    if settings.execution_window_cron:
        expression = cron.parse(settings.execution_window_cron, settings.timezone or "UTC")
        start = max(start, to_moment(cron.next_open(expression, to_datetime(start))))
    ttl = wanted.ttl_secs or settings.run_ttl_secs
    return Plan(start if start > now else None, start + ttl * _SECOND if ttl else None)


def trigger(writer: Connection, job: Job, wanted: Wanted, change: Change) -> Triggered:
    """Make the run that is wanted of `job`, whose row is locked, or return the one that is there already.

    Raises `RefusedError`: 429 if the job's rate limit is used up, 409 if the id that is wanted is of another job's run;
    and `IntegrityError` if another transaction has just made a run with this key or id.
    """
    made = find_made(writer, job, wanted)
    if made is not None:
        return Triggered(made, is_hit=True)
    if wanted.idempotency_key is not None:
        hit = writer.execute(_BY_KEY, {"job": job.id, "key": wanted.idempotency_key}).one_or_none()
        if hit is not None:
            return Triggered(hit, is_hit=True)
    check_rate(writer, job, change.moment)
    duplicate = find_duplicate(writer, job, wanted.payload.hash, change.moment)
    if duplicate is not None:
        return Triggered(duplicate, is_duplicate=True)
    return Triggered(make_run(writer, job, wanted, change))


def find_made(reader: Connection, job: Job, wanted: Wanted) -> Row[Any] | None:
    """Return the run of `job` that has the id which is wanted. Raises `RefusedError` (409) if it is another job's."""
    if wanted.run_id is None:
        return None
    row = reader.execute(_BY_ID, {"id": wanted.run_id}).one_or_none()
    if row is not None and row.job_id != job.id:
        raise RefusedError(409, "The form was sent for another job: open its page again.")
    return row


def trigger_all(writer: Connection, job: Job, items: Sequence[Wanted], change: Change) -> tuple[str, list[Triggered]]:
    """Make all runs that are wanted, as one batch, and return its id, and the runs in the order of `items`.

    Raises `RefusedError`, with the index of the item, and then the transaction must be rolled back.
    """
    batch_id = new_id(change.moment)
    triggered = []
    for index, wanted in enumerate(items):
        moment = Change(change.author, change.moment + index)  # so that they keep their order
        with item_of_bulk(index):
            triggered.append(trigger(writer, job, replace(wanted, batch_id=batch_id), moment))
    values = {"item_count": len(items), "created_count": sum(made.is_new for made in triggered)}
    writer.execute(insert(batch).values(id=batch_id, job_id=job.id, created_at=change.moment, **values))
    return batch_id, triggered


@contextmanager
def item_of_bulk(index: int) -> Iterator[None]:
    """Return a block whose refusals name the index of an item."""
    try:
        yield
    except RefusedError as refusal:
        message = f"Item {index}: {refusal.message}"
        details = {f"items.{index}.{name}": text for name, text in (refusal.details or {}).items()}
        raise RefusedError(refusal.status, message, details, headers=refusal.headers) from None


def make_run(writer: Connection, job: Job, wanted: Wanted, change: Change) -> Row[Any]:
    """Make a run of `job` and return it: delayed until its time, waiting for what it depends on, or else queued."""
    now = change.moment
    plan = plan_of(job, wanted, now)
    dependency_key = wanted.metadata.get("dependency_key")
    dependent = Dependent(job.id, wanted.idempotency_key, dependency_key)
    if plan.scheduled_at is not None:
        status = Status.DELAYED
    else:
        status = Status.QUEUED if are_met(writer, dependent) else Status.WAITING
    run_id = wanted.run_id or new_id(now)
    values = {
        "id": run_id,
        "job_id": job.id,
        "project_id": job.project_id,
        "status": status.value,
        "attempt": 1,
        "priority": wanted.priority,
        "payload": wanted.payload.text,
        "payload_hash": wanted.payload.hash,
        "tags": canonical(wanted.tags) if wanted.tags else None,
        "metadata": canonical(wanted.metadata) if wanted.metadata else None,
        "triggered_by": wanted.triggered_by,
        "fire_at": wanted.fire_at,
        "created_by": change.author,
        "created_at": now,
        "job_version": job.version,
        "job_version_id": job.version_id,
        "idempotency_key": wanted.idempotency_key,
        "dependency_key": dependency_key,
        "concurrency_key": wanted.concurrency_key,
        "batch_id": wanted.batch_id,
        "continuation_of": wanted.continuation_of,
        "lineage_depth": wanted.lineage_depth,
        "debug_mode": wanted.debug_mode,
        "scheduled_at": plan.scheduled_at,
        "available_at": plan.scheduled_at or now,
        "expires_at": plan.expires_at,
    }
    (row,) = writer.execute(_INSERT, values)
    if wanted.tags:
        of_run = {"run_id": run_id, "project_id": job.project_id, "created_at": now}
        writer.execute(insert(run_tag), [{"key": key, "value": value, **of_run} for key, value in wanted.tags.items()])
    return row


# Each trigger does these: to make such a statement takes longer than to execute it.
_BY_ID = select(run).where(run.c.id == bindparam("id"))
_BY_KEY = select(run).where(run.c.job_id == bindparam("job"), run.c.idempotency_key == bindparam("key"))
_INSERT = insert(run).returning(run)


def check_has_heads(job: Job) -> None:
    """Raise `RefusedError` (400) if runs of a job have no requests whose heads could be kept."""
    if job.settings.task is not None:
        raise _refused("debug_mode", "a Celery task has no requests whose heads could be kept")


def _refused(field: str, reason: str) -> RefusedError:
    return RefusedError(400, "The request is not valid.", {field: reason})
