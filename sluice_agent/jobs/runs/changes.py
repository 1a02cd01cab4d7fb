"""Changes of runs in the database, each with a comparison: of two that happen at once, one finds nothing to change.

Those of many runs that are locked take one statement for each set of columns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from sluice_agent.jobs.runs.dependencies import Dependent, are_met
from sluice_agent.jobs.runs.transitions import (
    Canceled,
    Completed,
    Event,
    Failed,
    Faulted,
    Lost,
    Met,
    RunState,
    advance,
)
from sluice_agent.jobs.status import TERMINAL, Status
from sluice_agent.jobs.store.id_lists import id_list
from sluice_agent.jobs.store.schema import attempt, dependency, revocation, run
from sluice_agent.jobs.webhooks.outbox import add_webhook

LOST = "lost"
"""The class of an attempt whose worker is gone. Its report may still come."""

_MOST_DEPENDENTS = 1_000  # runs that are looked at when a run of another job ends
_ENDS_OF_ATTEMPTS = {Lost: LOST, Canceled: "canceled", Faulted: "system", Failed: "reported", Completed: None}
"""The events that end an attempt without a worker's report, and the class that it then has."""
_CLAIMED = (Status.DEQUEUED.value, Status.EXECUTING.value)
_NOTHING: Mapping[str, Any] = {}


def state_of(row: Row[Any], max_attempts: int = 1) -> RunState:
    """Return the state of a row of `run`. Only the ends of attempts look at `max_attempts`."""
    return RunState(Status(row.status), row.attempt, row.retries, max_attempts, row.first_started_at is not None)


@dataclass(frozen=True, slots=True)
class Step:
    """An event that can happen to a run, with the row that the run was read from, and the columns that it changes."""

    row: Row[Any]
    event: Event
    values: Mapping[str, Any]
    has_webhook: bool = True
    """Whether the version of the run may have a webhook."""

    @property
    def status(self) -> Status:
        """The status of the run after it."""
        status: Status = self.values["status"]
        return status

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of the statement that changes the run if it is as it was."""
        was = {"was_id": self.row.id, "was_status": self.row.status, "was_retries": self.row.retries}
        return {**self.values, "status": self.status.value, **was}


def change(
    writer: Connection,
    row: Row[Any],
    event: Event,
    now: int,
    max_attempts: int = 1,
    also: Mapping[str, Any] = _NOTHING,
) -> Row[Any] | None:
    """Let `event` happen to the run that `row` was read from, and return its row then. None: the run has changed since.

    `also` are further columns that change with it. The end of a run lets others begin that wait for it, and adds its
    webhook; an attempt that ends without a report gets its end, and a Celery task that is canceled is revoked. Raises
    `TransitionError` if the event can't happen.
    """
    step = Step(row, event, {**advance(state_of(row, max_attempts), event, now), **also})
    changed = writer.execute(_RETURNING, step.parameters).one_or_none()
    if changed is not None:
        _follow(writer, [(step, changed)], now)
    return changed


def change_locked(writer: Connection, steps: Sequence[Step], now: int) -> list[Any]:
    """Take steps, each of another run, whose rows this transaction has locked. Return what the rows are then.

    All else is as with `change`.
    """
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for step in steps:
        by_columns.setdefault(tuple(step.values), []).append(step.parameters)
    for parameters in by_columns.values():
        if writer.execute(_UPDATE, parameters).rowcount != len(parameters):
            raise RuntimeError("a run that is locked has changed")
    changed = [SimpleNamespace(**{**step.row._mapping, **step.values, "status": step.status.value}) for step in steps]
    _follow(writer, list(zip(steps, changed, strict=True)), now)
    return changed


def _follow(writer: Connection, taken: Sequence[tuple[Step, Any]], now: int) -> None:
    """Change what follows from steps: ends of attempts, revocations, runs that have waited, webhooks."""
    for step, _ in taken:
        row, kind = step.row, type(step.event)
        if kind in _ENDS_OF_ATTEMPTS and row.status == Status.EXECUTING.value:
            error = {"error_class": _ENDS_OF_ATTEMPTS[kind], "error": getattr(step.event, "error", None)}
            writer.execute(_END_ATTEMPT, {"run": row.id, "number": row.retries, "finished_at": now, **error})
        if kind is Canceled and row.status in _CLAIMED and row.task_id is not None:
            revoke_later(writer, row.task_id, now)
    ended = [(step, changed) for step, changed in taken if step.status in TERMINAL]
    if ended:
        release_dependents(writer, {step.row.job_id for step, _ in ended}, now)
    for step, changed in ended:
        if step.has_webhook:
            add_webhook(writer, changed, now)


def revoke_later(writer: Connection, task_id: str, now: int) -> None:
    """Have workers asked, after the commit, not to run a Celery task whose attempt has ended without it."""
    if writer.execute(_REVOCATION, {"task": task_id}).first() is None:
        writer.execute(insert(revocation).values(task_id=task_id, created_at=now))


def release_dependents(writer: Connection, job_ids: Collection[str], now: int) -> None:
    """Let runs begin that waited for a run of one of these jobs to end, the oldest first."""
    for row in writer.execute(_WAITING, {"jobs": id_list(job_ids)}).all():
        if are_met(writer, dependent_of(row)):
            change(writer, row, Met(), now)


def dependent_of(row: Row[Any]) -> Dependent:
    """Return what decides which runs of other jobs the run waits for."""
    return Dependent(row.job_id, row.idempotency_key, row.dependency_key)


# Each change does these: to make such a statement takes longer than to execute it.
_UPDATE = update(run).where(
    run.c.id == bindparam("was_id"),
    run.c.status == bindparam("was_status"),
    run.c.retries == bindparam("was_retries"),
)
_RETURNING = _UPDATE.returning(run)
_REVOCATION = select(revocation.c.task_id).where(revocation.c.task_id == bindparam("task"))
_END_ATTEMPT = update(attempt).where(attempt.c.run_id == bindparam("run"), attempt.c.retries == bindparam("number"))
_IS_DEPENDED_ON = dependency.c.depends_on_job_id.in_(bindparam("jobs", expanding=True))
_WAITING = (
    select(run)
    .where(
        run.c.status == Status.WAITING.value,
        run.c.job_id.in_(select(dependency.c.job_id).where(_IS_DEPENDED_ON)),
    )
    .order_by(run.c.created_at, run.c.id)
    .limit(_MOST_DEPENDENTS)
)
