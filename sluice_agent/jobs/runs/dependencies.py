"""Whether the runs have come that a run waits for."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from sluice_agent.jobs.definitions.dependencies import Dependency, dependencies_of
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import run

_FAILED = frozenset(
    (
        Status.FAILED,
        Status.TIMED_OUT,
        Status.CRASHED,
        Status.SYSTEM_FAILED,
        Status.EXPIRED,
        Status.DEAD_LETTER,
    )
)
"""The ends that fulfil the condition `failed`: all but success and cancellation."""


@dataclass(frozen=True, slots=True)
class Dependent:
    """What decides which runs of other jobs a run waits for: those with its idempotency key if it has one, else those
    with its dependency key if it has one, else any."""

    job_id: str
    idempotency_key: str | None
    dependency_key: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """A dependency of a run, the run that decides about it (the latest that ended), and whether that fulfils it."""

    dependency: Dependency
    run_id: str | None
    status: Status | None
    is_met: bool


def are_met(reader: Connection, dependent: Dependent) -> bool:
    """Return whether all that a run depends on is fulfilled."""
    return all(standing.is_met for standing in standings(reader, dependent))


def standings(reader: Connection, dependent: Dependent) -> list[Standing]:
    """Return how it stands with each dependency of a run."""
    return [_standing(reader, dependency, dependent) for dependency in dependencies_of(reader, dependent.job_id)]


def _standing(reader: Connection, dependency: Dependency, dependent: Dependent) -> Standing:
    query = select(run.c.id, run.c.status).where(
        run.c.job_id == dependency.depends_on_job_id, run.c.finished_at.is_not(None)
    )
    if dependent.idempotency_key is not None:
        query = query.where(run.c.idempotency_key == dependent.idempotency_key)
    elif dependent.dependency_key is not None:
        query = query.where(run.c.dependency_key == dependent.dependency_key)
    row = reader.execute(query.order_by(run.c.finished_at.desc(), run.c.id.desc()).limit(1)).one_or_none()
    if row is None:
        return Standing(dependency, None, None, is_met=False)
    status = Status(row.status)
    return Standing(dependency, row.id, status, _fulfils(status, dependency.condition))


def _fulfils(status: Status, condition: str) -> bool:
    if condition == "completed":
        return status is Status.COMPLETED
    return status in _FAILED if condition == "failed" else True
