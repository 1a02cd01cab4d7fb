"""What the report of a task changes in its run. The same report again changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from sluice_agent.jobs.attempts.records import Trace
from sluice_agent.jobs.attempts.retries import RetryStrategy, retry_delay
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.definitions.versions import version_at
from sluice_agent.jobs.runs.changes import change, revoke_later
from sluice_agent.jobs.runs.named_limits import note_start
from sluice_agent.jobs.runs.transitions import Canceled, Ending, Event, Expired, Faulted, Finished, Lost, Started
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import attempt, is_open_task, run
from sluice_agent.jobs.task_events.reports import TaskReport
from sluice_agent.model import JobState

WAIT = 86_400 * 1_000_000
"""Microseconds that a task which has begun may wait for its next execution: its own retry, or another delivery."""

_MILLISECOND = 1_000
_SECOND = 1_000_000  # microseconds, as all times
_WAITING = (JobState.QUEUED, JobState.SCHEDULED, JobState.RETRYING)
_HARD_LIMIT = "TimeLimitExceeded"
_EXPIRED = "the message of the task had expired before a worker took it"
_NO_JOB = "the job of the run is gone"


def apply_report(
    writer: Connection, run_id: str, task_id: str, report: TaskReport, now: int, chance: Callable[[], float]
) -> None:
    """Let the report of a task change its run, if that attempt is under way.

    `chance` returns a random number from 0 to 1.
    """
    row = writer.execute(_OPEN, {"run": run_id, "task": task_id}).one_or_none()
    if row is None:
        return
    settings = settings_of(writer, row)
    if settings is None:
        change(writer, row, Faulted(_NO_JOB), now)
        return
    if row.status == Status.DEQUEUED.value and report.has_begun:
        row = _begin(writer, row, report, settings, now)
        if row is None:
            return
    event = _end(row, report, settings, now, chance)
    if event is None:
        _note_sign(writer, row, report, settings, now)
    else:
        end_attempt(writer, row, event, settings, now, report.completed_at)


def settings_of(reader: Connection, row: Row[Any]) -> JobSettings | None:
    """Return the settings by which the task of a run was published; None if its job is gone."""
    version = version_at(reader, row.job_id, row.job_version)
    return None if version is None else version.settings


def end_attempt(
    writer: Connection, row: Row[Any], event: Event, settings: JobSettings, now: int, completed_at: int | None = None
) -> None:
    """End the attempt of a run, whose row is locked, by `event`: the run ends with it, or another attempt follows.

    `completed_at` is when the task ended by its worker's clock. A task that has not ended itself is revoked.
    """
    end = now if completed_at is None or row.started_at is None else min(max(completed_at, row.started_at), now)
    trace = Trace() if row.started_at is None else Trace(total_ms=_milliseconds(end - row.started_at))
    ends_run = not isinstance(event, (Finished, Lost)) or _is_last(row, event, settings)
    also: dict[str, Any] = {"finished_at": end} if ends_run else {}
    if ends_run and row.started_at is not None:
        also["execution_trace"] = _trace_of_run(row, trace)
    if isinstance(event, Canceled):
        also["error"] = "the task was revoked"
    if change(writer, row, event, now, settings.max_attempts, also) is None:
        return
    if row.started_at is not None:
        error, error_class = _error_of(event)
        values = {"finished_at": end, "error_class": error_class, "error": error, "trace": trace.model_dump_json()}
        writer.execute(_END, {"run": row.id, "number": row.retries, **values})
    if completed_at is None:
        revoke_later(writer, row.task_id, now)


def retry_at(row: Row[Any], settings: JobSettings, now: int, chance: Callable[[], float]) -> int:
    """Return when the attempt after that of `row` may begin, if there is one."""
    strategy = RetryStrategy(settings.retry_strategy or RetryStrategy.EXPONENTIAL)
    return now + round(retry_delay(strategy, row.attempt, settings.retry_delays_secs, 0, chance) * _SECOND)


def deadline_passed(row: Row[Any], settings: JobSettings, now: int, chance: Callable[[], float]) -> Finished:
    """Return the end of an attempt whose deadline has passed."""
    error = f"the task has not ended within {settings.timeout_secs} s, the timeout_secs of its job"
    return Finished(row.retries, Ending.DEADLINE, retry_at(row, settings, now, chance), None, error, "timeout")


def _begin(writer: Connection, row: Row[Any], report: TaskReport, settings: JobSettings, now: int) -> Row[Any] | None:
    started = report.started_at if report.started_at is not None else report.completed_at
    at = min(max(now if started is None else started, row.claimed_at), now)
    also = {
        "started_at": at,
        "published_at": row.published_at or now,
        "claimed_until": at + settings.timeout_secs * _SECOND,
    }
    begun = change(writer, row, Started(), now, also=also)
    if begun is not None:
        number = {"run_id": row.id, "retries": row.retries, "attempt": row.attempt}
        writer.execute(_BEGIN, {**number, "started_at": at})
        note_start(writer, row, at)
    return begun


def _end(
    row: Row[Any], report: TaskReport, settings: JobSettings, now: int, chance: Callable[[], float]
) -> Event | None:
    """Return how the attempt ends by a report; None if it goes on."""
    if report.state is JobState.COMPLETED:
        return Finished(row.retries, Ending.SUCCESS, now, report.result)
    following = retry_at(row, settings, now, chance)
    if report.state is JobState.FAILED:
        error = report.error or "the task has failed"
        ending, error_class = Ending.RETRYABLE, "task"
        if error.startswith(_HARD_LIMIT):
            ending, error_class = Ending.DEADLINE, "timeout"
        return Finished(row.retries, ending, following, None, error, error_class)
    return _end_of_cancelled(row, report, following) if report.state is JobState.CANCELLED else None


def _end_of_cancelled(row: Row[Any], report: TaskReport, following: int) -> Event:
    if report.was_stopped:
        return Lost(following)
    if not report.is_expired:
        return Canceled()
    if row.first_started_at is None:
        return Expired(_EXPIRED)
    return Finished(row.retries, Ending.FINAL, following, None, _EXPIRED, "expired")


def _note_sign(writer: Connection, row: Row[Any], report: TaskReport, settings: JobSettings, now: int) -> None:
    """Record that the task is known to be there, and until when its next event must come."""
    values: dict[str, Any] = {"heartbeat_at": now, "published_at": row.published_at or now}
    if row.status == Status.EXECUTING.value:
        if report.state in _WAITING:
            values["claimed_until"] = max(report.eta or now, now) + WAIT
        elif report.state is JobState.ACTIVE:
            start = min(max(report.started_at or now, row.started_at), now)
            values["claimed_until"] = start + settings.timeout_secs * _SECOND
    writer.execute(_SIGN.values(values), {"run": row.id})


def _is_last(row: Row[Any], event: Finished | Lost, settings: JobSettings) -> bool:
    if isinstance(event, Finished) and event.ending in (Ending.SUCCESS, Ending.FINAL):
        return True
    return bool(row.attempt >= settings.max_attempts)


def _error_of(event: Event) -> tuple[str | None, str | None]:
    """Return the error of an attempt, and its class."""
    if isinstance(event, Finished):
        return event.error, event.error_class
    return None, {Lost: "lost", Canceled: "canceled"}.get(type(event), "system")


def _trace_of_run(row: Row[Any], trace: Trace) -> str:
    """Return where the time of the last attempt went: a task has no connection, and no transfer."""
    waits = {
        "queue_wait_ms": _milliseconds(row.started_at - row.created_at),
        "dequeue_ms": _milliseconds(row.started_at - row.claimed_at),
    }
    return json.dumps({**waits, **trace.model_dump()}, separators=(",", ":"))


def _milliseconds(microseconds: int) -> int:
    return max(round(microseconds / _MILLISECOND), 1) if microseconds > 0 else 0


_OPEN = (
    select(run).where(is_open_task, run.c.id == bindparam("run"), run.c.task_id == bindparam("task")).with_for_update()
)
_SIGN = update(run).where(run.c.id == bindparam("run"))
_BEGIN = insert(attempt)
_END = update(attempt).where(attempt.c.run_id == bindparam("run"), attempt.c.retries == bindparam("number"))
