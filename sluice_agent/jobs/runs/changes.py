"""Changes of runs in the database, each with a comparison: of two that happen at once, one finds nothing to change."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select, update

from sluice_agent.jobs.runs.dependencies import Dependent, are_met
from sluice_agent.jobs.runs.transitions import Event, Met, RunState, advance
from sluice_agent.jobs.status import TERMINAL, Status
from sluice_agent.jobs.store.schema import dependency, is_not_completed, run

_MOST_DEPENDENTS = 1_000  # runs that are looked at when a run of another job ends


def state_of(row: Row[Any], max_attempts: int = 1) -> RunState:
    """Return the state of a row of `run`. Only the ends of attempts look at `max_attempts`."""
    return RunState(Status(row.status), row.attempt, row.retries, max_attempts, row.first_started_at is not None)


def change(writer: Connection, row: Row[Any], event: Event, now: int, max_attempts: int = 1) -> Row[Any] | None:
    """Let `event` happen to the run that `row` was read from, and return its row then. None: the run has changed since.

    The end of a run lets others begin that wait for it. Raises `TransitionError` if the event can't happen.
    """
    values = advance(state_of(row, max_attempts), event, now)
    is_unchanged = (run.c.id == row.id) & (run.c.status == row.status) & (run.c.retries == row.retries)
    stored = {name: value.value if isinstance(value, Status) else value for name, value in values.items()}
    changed = writer.execute(update(run).where(is_unchanged).values(stored).returning(run)).one_or_none()
    if changed is not None and values["status"] in TERMINAL:
        release_dependents(writer, row.job_id, now)
    return changed


def release_dependents(writer: Connection, job_id: str, now: int) -> None:
    """Let runs begin that waited for a run of the job to end, the oldest first."""
    dependents = select(dependency.c.job_id).where(dependency.c.depends_on_job_id == job_id)
    waiting = select(run).where(run.c.status == Status.WAITING.value, is_not_completed, run.c.job_id.in_(dependents))
    for row in writer.execute(waiting.order_by(run.c.created_at, run.c.id).limit(_MOST_DEPENDENTS)).all():
        if are_met(writer, dependent_of(row)):
            change(writer, row, Met(), now)


def dependent_of(row: Row[Any]) -> Dependent:
    """Return what decides which runs of other jobs the run waits for."""
    return Dependent(row.job_id, row.idempotency_key, row.dependency_key)
