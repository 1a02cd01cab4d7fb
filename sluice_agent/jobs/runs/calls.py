"""What an endpoint does with its run by calls, while it works on it. All functions work in the transaction of their
connection, on a run whose row is locked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from sluice_agent.jobs.definitions.jobs import Change, Lock, find_job
from sluice_agent.jobs.json_text import canonical, dumps, parse
from sluice_agent.jobs.runs.call_requests import MOST_ANNOTATIONS, AnnotateCall, LogCall, ProgressCall
from sluice_agent.jobs.runs.changes import change
from sluice_agent.jobs.runs.run_token import AttemptOfToken
from sluice_agent.jobs.runs.runs import check_enabled
from sluice_agent.jobs.runs.transitions import Completed, Failed
from sluice_agent.jobs.runs.trigger import make_run, want_again
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import run, run_log
from sluice_agent.server.errors import RefusedError

MOST_LINES = 1_000
"""Lines of a run's log."""

DEEPEST = 10
"""Continuations after one another."""

CONTINUE = "continue"


def find_run_of(writer: Connection, of: AttemptOfToken, *ended: Status) -> Row[Any]:
    """Return the row of the run that a token is of, locked. The attempt must be under way, or have `ended` so.

    Raises `RefusedError`: 404 if the run is gone, 409 if the attempt is not under way.
    """
    row = writer.execute(_LOCKED, {"run": of.run_id}).one_or_none()
    if row is None:
        raise RefusedError(404, "Run not found.")
    is_current = (row.attempt, row.retries) == (of.attempt, of.retries)
    if not is_current or row.status not in {status.value for status in (Status.EXECUTING, *ended)}:
        raise RefusedError(409, f"The attempt of this token is not under way: the run is {row.status}.")
    return row


def beat(writer: Connection, row: Row[Any], now: int) -> Row[Any]:
    """Record that the endpoint works on the run: for a minute it is not taken for lost, also without its worker."""
    return _update(writer, row, heartbeat_at=now)


def report_progress(writer: Connection, row: Row[Any], call: ProgressCall, now: int) -> Row[Any]:
    """Keep how far the run is. The last report counts, and only in its attempt."""
    progress = {"percent": call.percent, **({"message": call.message} if call.message else {}), "at": now}
    return _update(writer, row, progress=dumps(progress), heartbeat_at=now)


def add_line(writer: Connection, row: Row[Any], call: LogCall, now: int) -> Row[Any]:
    """Add a line to the log of the run. Raises `RefusedError` (409) if it has as many as are kept."""
    last = writer.scalar(_LAST_LINE, {"run": row.id}) or 0
    if last >= MOST_LINES:
        raise RefusedError(409, f"The log of the run has {MOST_LINES} lines: no more are kept.")
    line = {"attempt": row.attempt, "at": now, "level": call.level, "message": call.message, "data": call.data_text}
    writer.execute(_INSERT_LINE, {"run_id": row.id, "number": last + 1, **line})
    return _update(writer, row, heartbeat_at=now)


def annotate(writer: Connection, row: Row[Any], call: AnnotateCall, now: int) -> Row[Any]:
    """Add to the metadata of the run. Raises `RefusedError` (400) if it has too much then."""
    before = {} if row.metadata is None else parse(row.metadata.encode())
    metadata = before | call.annotations
    if len(metadata) > MOST_ANNOTATIONS:
        reason = f"the run would have {len(metadata)} of them, of {MOST_ANNOTATIONS} that it may have"
        raise RefusedError(400, "The request is not valid.", {"annotations": reason})
    return _update(writer, row, metadata=canonical(metadata) if metadata else None, heartbeat_at=now)


def complete(writer: Connection, row: Row[Any], result: str | None, now: int) -> Row[Any]:
    """End the run as completed, with a result that is JSON. What the endpoint answers later changes nothing."""
    if row.status == Status.COMPLETED.value:
        return row
    return _ended(change(writer, row, Completed(result), now))


def fail(writer: Connection, row: Row[Any], error: str, now: int) -> Row[Any]:
    """End the run as failed: no other attempt follows, whatever the endpoint answers later."""
    if row.status == Status.FAILED.value:
        return row
    return _ended(change(writer, row, Failed(error), now))


def continue_run(writer: Connection, row: Row[Any], payload: Any, author: Change) -> tuple[Row[Any], bool]:
    """Make a run of the same job that goes on with this one, which does not end by it. Return it, and whether it is
    new: a run is continued once.

    Its payload is that of this one, unless there is another. Raises `RefusedError`: 400 if the job does not take it or
    is disabled, 409 if there are too many continuations after one another.
    """
    found = writer.execute(_CONTINUATION, {"run": row.id}).one_or_none()
    if found is not None:
        return found, False
    if row.lineage_depth >= DEEPEST:
        raise RefusedError(409, f"The run is the continuation of {DEEPEST} others: no more follow.")
    job = find_job(writer, row.job_id, None, Lock.SHARED)
    check_enabled(job)
    wanted = replace(
        want_again(job, row, payload),
        triggered_by=CONTINUE,
        continuation_of=row.id,
        lineage_depth=row.lineage_depth + 1,
    )
    return make_run(writer, job, wanted, author), True


def _update(writer: Connection, row: Row[Any], **values: Any) -> Row[Any]:
    (changed,) = writer.execute(_UPDATE, {"run": row.id, **values})
    return changed


def _ended(changed: Row[Any] | None) -> Row[Any]:
    if changed is None:
        raise RefusedError(409, "The run has just changed.")
    return changed


_LOCKED = select(run).where(run.c.id == bindparam("run")).with_for_update()
_UPDATE = update(run).where(run.c.id == bindparam("run")).returning(run)
_LAST_LINE = select(func.max(run_log.c.number)).where(run_log.c.run_id == bindparam("run"))
_INSERT_LINE = insert(run_log)
_CONTINUATION = select(run).where(run.c.continuation_of == bindparam("run"))
