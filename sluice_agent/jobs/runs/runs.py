"""Runs in the database: found, canceled, replayed, given another time. All functions work in the transaction of their
connection."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select, update

from sluice_agent.jobs.definitions.jobs import Change, Job
from sluice_agent.jobs.runs.changes import change, dependent_of
from sluice_agent.jobs.runs.dependencies import are_met
from sluice_agent.jobs.runs.transitions import (
    Canceled,
    Due,
    Event,
    Replayed,
    Rescheduled,
    TransitionError,
)
from sluice_agent.jobs.runs.trigger import check_has_heads, find_made, make_run, want_again
from sluice_agent.jobs.status import UNDER_WAY, UNSUCCESSFUL, Status
from sluice_agent.jobs.store.page import Page, PageRequest, read_page
from sluice_agent.jobs.store.schema import batch, job, run, run_tag
from sluice_agent.server.errors import RefusedError


def list_runs(
    reader: Connection,
    project: str,
    wanted: PageRequest,
    *,
    status: Status | None = None,
    job_id: str | None = None,
    batch_id: str | None = None,
    tag: tuple[str, str | None] | None = None,
) -> Page[Row[Any]]:
    """Return a page of a project's runs that fulfil all conditions; a tag has any value if that is None."""
    order: tuple[ColumnElement[int], ColumnElement[str]] = (run.c.created_at, run.c.id)
    query = select(run)
    if batch_id is not None or job_id is not None:
        if not is_of_project(reader, project, job_id, batch_id):
            return Page([], None)
    elif tag is None:
        query = query.where(run.c.project_id == project)
    if tag is not None:
        order = (run_tag.c.created_at, run_tag.c.run_id)
        is_tagged = (run_tag.c.run_id == run.c.id) & (run_tag.c.project_id == project) & (run_tag.c.key == tag[0])
        query = query.add_columns(*order).join(run_tag, is_tagged)
        query = query if tag[1] is None else query.where(run_tag.c.value == tag[1])
    for column, value in ((run.c.batch_id, batch_id), (run.c.job_id, job_id), (run.c.status, status and status.value)):
        query = query if value is None else query.where(column == value)
    return read_page(reader, query, order, wanted, lambda row: row)


def is_of_project(reader: Connection, project: str, job_id: str | None, batch_id: str | None) -> bool:
    """Return whether the job, and the job of the batch, are of the project; None is of every project.

    Runs are then selected without their project, beside which the database would choose an index that serves worse.
    """
    query = select(job.c.id).where(job.c.project_id == project)
    if job_id is not None:
        query = query.where(job.c.id == job_id)
    if batch_id is not None:
        query = query.join(batch, batch.c.job_id == job.c.id).where(batch.c.id == batch_id)
    return reader.scalar(query.limit(1)) is not None


def find_run(reader: Connection, run_id: str, project: str | None, *, locks: bool = False) -> Row[Any]:
    """Return the row of a run. Raises `RefusedError` (404) if there is none, or if it is not of the `project` that is
    demanded."""
    query = select(run).where(run.c.id == run_id)
    row = reader.execute(query.with_for_update() if locks else query).one_or_none()
    if row is None or project not in (None, row.project_id):
        raise RefusedError(404, "Run not found.")
    return row


def cancel_run(writer: Connection, row: Row[Any], now: int) -> Row[Any]:
    """Cancel a run, whose row is locked, and the runs that it has started itself, and return its row.

    Raises `RefusedError` (409) if it has ended.
    """
    children = select(run).where(
        run.c.parent_run_id == row.id, run.c.status.in_([status.value for status in UNDER_WAY])
    )
    canceled = _change(writer, row, Canceled(), now)
    for child in writer.execute(children.order_by(run.c.id).with_for_update()).all():
        change(writer, child, Canceled(), now)
    return canceled


def replay_run(
    writer: Connection, of: Job, row: Row[Any], author: Change, payload: Any = None, new_id: str | None = None
) -> Row[Any]:
    """Make a new run with what an unsuccessful one, whose row is locked, was given, or with another `payload`, by the
    job's settings of now, and return it. With `new_id`, the run that has this id already.

    Raises `RefusedError`: 409 if that run has not failed, 400 if the job is disabled or does not take the payload.
    """
    if Status(row.status) not in UNSUCCESSFUL:
        raise RefusedError(409, f"The run is {row.status}: only a run that has failed is replayed.")
    check_enabled(of)
    wanted = replace(want_again(of, row, payload), debug_mode=row.debug_mode, run_id=new_id)
    return find_made(writer, of, wanted) or make_run(writer, of, wanted, author)


def replay_dead_letter(writer: Connection, of: Job, row: Row[Any], now: int) -> Row[Any]:
    """Let a dead letter, whose row is locked, begin again with its first attempt, and return its row.

    Raises `RefusedError`: 409 if it is none, 400 if the job is disabled.
    """
    check_enabled(of)
    return _change(writer, row, Replayed(are_met(writer, dependent_of(row))), now)


def reschedule_run(writer: Connection, row: Row[Any], scheduled_at: int, now: int) -> Row[Any]:
    """Give a delayed run, whose row is locked, another time, and return its row. One that has passed lets it begin.

    It expires as long after its time as before. Raises `RefusedError` (409) if it is not delayed.
    """
    expires_at = row.expires_at
    if expires_at is not None and row.scheduled_at is not None:
        expires_at += max(scheduled_at, now) - row.scheduled_at
    moved = _change(writer, row, Rescheduled(max(scheduled_at, now), expires_at), now)
    return moved if scheduled_at > now else _change(writer, moved, Due(are_met(writer, dependent_of(row))), now)


def free_key(writer: Connection, row: Row[Any]) -> None:
    """Let the idempotency key of a run be used for another one. Raises `RefusedError` (404) if it has none."""
    if row.idempotency_key is None:
        raise RefusedError(404, "The run has no idempotency key.")
    writer.execute(update(run).where(run.c.id == row.id).values(idempotency_key=None))


def set_debug_mode(writer: Connection, of: Job, row: Row[Any], *, is_on: bool) -> Row[Any]:
    """Have the heads of a run's requests kept from its next attempt on, or no longer, and return its row.

    Raises `RefusedError` (400) if the job has no requests.
    """
    if is_on:
        check_has_heads(of)
    (changed,) = writer.execute(update(run).where(run.c.id == row.id).values(debug_mode=is_on).returning(run))
    return changed


def check_enabled(of: Job) -> None:
    """Raise `RefusedError` (400) if a job is disabled."""
    if not of.enabled:
        raise RefusedError(400, "The job is disabled: enable it first.")


def _change(writer: Connection, row: Row[Any], event: Event, now: int) -> Row[Any]:
    """Let an event happen to a run. Raises `RefusedError` (409) if it can't."""
    try:
        changed = change(writer, row, event, now)
    except TransitionError as error:
        raise RefusedError(409, str(error)) from None
    if changed is None:
        raise RefusedError(409, "The run has just changed: read it again.")
    return changed
