"""Which jobs wait for which. All functions work in the transaction of their connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, text
from sqlalchemy.exc import IntegrityError

from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.store.ids import new_id
from sluice_agent.jobs.store.page import Page, PageRequest, read_page
from sluice_agent.jobs.store.schema import dependency, job
from sluice_agent.server.errors import RefusedError

DEFAULT_CONDITION = "completed"


@dataclass(frozen=True, slots=True)
class Dependency:
    """A job waits until the latest run of another one has ended as `condition` demands."""

    id: str
    job_id: str
    depends_on_job_id: str
    condition: str
    created_at: int


def list_dependencies(reader: Connection, job_id: str, wanted: PageRequest) -> Page[Dependency]:
    """Return a page of what a job depends on, the newest first."""
    query = select(dependency).where(dependency.c.job_id == job_id)
    return read_page(reader, query, (dependency.c.created_at, dependency.c.id), wanted, _dependency_of)


def dependencies_of(reader: Connection, job_id: str) -> list[Dependency]:
    """Return all that a job depends on, the oldest first."""
    return [_dependency_of(row) for row in reader.execute(_OF_JOB, {"job_id": job_id})]


def dependents_of(reader: Connection, job_id: str) -> list[Dependency]:
    """Return all dependencies of other jobs on a job, the oldest first."""
    return [_dependency_of(row) for row in reader.execute(_ON_JOB, {"job_id": job_id})]


def create_dependency(writer: Connection, of: Job, target: str, condition: str, moment: int) -> Dependency:
    """Let a job depend on the job `target`, and return the dependency.

    Raises `RefusedError`: 400 if the target is unknown, of another project, the job itself, or depends on it; 409 if
    the job depends on it already.
    """
    if writer.dialect.name == "postgresql":  # or two transactions would make one half of a cycle each
        writer.execute(text("LOCK TABLE dependency IN SHARE ROW EXCLUSIVE MODE"))
    if target == of.id:
        raise _refused("a job can't depend on itself")
    query = select(job.c.project_id).where(job.c.id == target).with_for_update(read=True)
    if writer.scalar(query) != of.project_id:
        raise _refused("the project has no job with this id")
    if _reaches(writer, target, of.id):
        raise _refused("this job depends on the other one, directly or through others: it would wait for itself")
    created = Dependency(new_id(moment), of.id, target, condition, moment)
    try:
        writer.execute(insert(dependency).values({name: getattr(created, name) for name in Dependency.__slots__}))
    except IntegrityError:
        raise RefusedError(409, "The job depends on this job already.") from None
    return created


def delete_dependency(writer: Connection, job_id: str, dependency_id: str) -> None:
    """Delete a dependency of a job. Raises `RefusedError` (404) if it has none with this id."""
    where = (dependency.c.id == dependency_id) & (dependency.c.job_id == job_id)
    if not writer.execute(delete(dependency).where(where)).rowcount:
        raise RefusedError(404, "Dependency not found.")


_OF_JOB = (
    select(dependency)
    .where(dependency.c.job_id == bindparam("job_id"))
    .order_by(dependency.c.created_at, dependency.c.id)
)
_ON_JOB = (
    select(dependency)
    .where(dependency.c.depends_on_job_id == bindparam("job_id"))
    .order_by(dependency.c.created_at, dependency.c.id)
)


def _reaches(reader: Connection, start: str, target: str) -> bool:
    """Return whether the job `start` depends on `target`, directly or through others."""
    seen = {start}
    level = {start}
    while level:
        query = select(dependency.c.depends_on_job_id).where(dependency.c.job_id.in_(level))
        level = set(reader.scalars(query)) - seen
        seen |= level
        if target in level:
            return True
    return False


def _dependency_of(row: Row[Any]) -> Dependency:
    return Dependency(row.id, row.job_id, row.depends_on_job_id, row.condition, row.created_at)


def _refused(reason: str) -> RefusedError:
    return RefusedError(400, "The job can't depend on this job.", {"depends_on_job_id": reason})
