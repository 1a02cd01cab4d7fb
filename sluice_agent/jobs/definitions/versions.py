"""Versions of jobs in the database, and which of them a run is executed by. All functions work in the transaction of
their connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.definitions.settings import JobSettings, settings_from
from sluice_agent.jobs.store.page import Page, PageRequest, read_page
from sluice_agent.jobs.store.schema import job_version
from sluice_agent.server.errors import RefusedError


@dataclass(frozen=True, slots=True)
class JobVersion:
    """The settings of a job as they once were, or are. `created_at` is when they became the current ones."""

    id: str
    job_id: str
    version: int
    settings: JobSettings
    created_at: int


def list_versions(reader: Connection, job_id: str, wanted: PageRequest) -> Page[JobVersion]:
    """Return a page of a job's versions, the highest and current one first."""
    query = select(job_version).where(job_version.c.job_id == job_id)
    return read_page(reader, query, (job_version.c.version, job_version.c.id), wanted, _version_of)


def find_version(reader: Connection, job_id: str, version_id: str) -> JobVersion:
    """Return a version of a job. Raises `RefusedError` (404) if it has none with this id."""
    query = select(job_version).where(job_version.c.id == version_id, job_version.c.job_id == job_id)
    row = reader.execute(query).one_or_none()
    if row is None:
        raise RefusedError(404, "Version not found.")
    return _version_of(row)


def version_at(reader: Connection, job_id: str, number: int) -> JobVersion | None:
    """Return the version of a job with this number."""
    row = reader.execute(_AT, {"job": job_id, "number": number}).one_or_none()
    return None if row is None else _version_of(row)


def version_to_start(reader: Connection, live: Job, number: int) -> JobVersion:
    """Return the version by which a run of version `number` starts now, by the job's `version_policy`.

    `pin`: by its own. `latest`: by the current one. `minor`: by the last one before a version that is not
    `backwards_compatible`.
    """
    current = JobVersion(live.version_id, live.id, live.version, live.settings, live.updated_at)
    own = current if number == live.version else version_at(reader, live.id, number)
    if own is None or own is current or live.settings.version_policy == "latest":
        return current
    return _last_compatible(reader, own) if live.settings.version_policy == "minor" else own


def _last_compatible(reader: Connection, own: JobVersion) -> JobVersion:
    last = own
    with reader.execute(_LATER, {"job": own.job_id, "number": own.version}) as rows:
        for row in rows:
            later = _version_of(row)
            if not later.settings.backwards_compatible:
                break
            last = later
    return last


# Each attempt does these: to make such a statement takes longer than to execute it.
_OF_JOB = select(job_version).where(job_version.c.job_id == bindparam("job"))
_AT = _OF_JOB.where(job_version.c.version == bindparam("number"))
_LATER = _OF_JOB.where(job_version.c.version > bindparam("number")).order_by(job_version.c.version)


def _version_of(row: Row[Any]) -> JobVersion:
    return JobVersion(row.id, row.job_id, row.version, settings_from(row.settings), row.created_at)
