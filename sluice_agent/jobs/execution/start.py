"""The start of an attempt: a run that was claimed is executed by who comes first with a ticket of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select

from sluice_agent.jobs.attempts.records import Spec
from sluice_agent.jobs.definitions.jobs import find_job
from sluice_agent.jobs.definitions.secrets import signing_secrets
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.definitions.versions import version_at, version_to_start
from sluice_agent.jobs.environments import Environments, UnknownEnvironmentError, environment_of
from sluice_agent.jobs.execution.requests import StartRequest
from sluice_agent.jobs.execution.spec import spec_of
from sluice_agent.jobs.runs.changes import change
from sluice_agent.jobs.runs.named_limits import note_start
from sluice_agent.jobs.runs.tickets import is_valid
from sluice_agent.jobs.runs.transitions import Faulted, Released, Started
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import attempt, run
from sluice_agent.server.errors import RefusedError


def start_attempt(
    writer: Connection,
    run_id: str,
    wanted: StartRequest,
    now: int,
    token_secret: bytes,
    *,
    allows_private: bool,
    environments: Environments | None = None,
) -> Spec | None:
    """Start an attempt and return its requests. None: the message is to be dropped.

    The same execution gets the same answer again while its attempt is under way. A run whose job was disabled or paused
    since its claim goes back, and waits until the job is enabled or resumed. One whose job names none of the
    `environments` ends.
    """
    row = writer.execute(_LOCKED, {"run": run_id}).one_or_none()
    if row is None or row.attempt != wanted.attempt:
        return None
    if row.status == Status.EXECUTING.value and row.execution == wanted.execution:
        settings = settings_under_way(writer, row)
        begun = None if settings is None else (row, settings)
    elif row.status == Status.DEQUEUED.value and is_valid(row.ticket_hash, wanted.ticket):
        begun = _begin(writer, row, wanted.execution, now)
    else:
        return None
    if begun is None:
        return None
    started, settings = begun
    try:
        environment = environment_of(environments, settings.environment_id, row.project_id)
    except UnknownEnvironmentError as error:
        change(writer, started, Faulted(f"the attempt has no environment: {error}"), now)
        return None
    secrets = signing_secrets(writer, row.job_id, now)
    return spec_of(started, settings, environment, secrets, token_secret, allows_private=allows_private)


def _begin(writer: Connection, row: Row[Any], execution: str, now: int) -> tuple[Row[Any], JobSettings] | None:
    """Let the attempt of a claimed run begin; return its row, and the settings that it begins with."""
    try:
        job = find_job(writer, row.job_id, None)
    except RefusedError:
        change(writer, row, Faulted("the job of the run is gone"), now)
        return None
    if not job.enabled or job.paused_at is not None:
        change(writer, row, Released(now), now)
        return None
    version = version_to_start(writer, job, row.job_version)
    also = {"execution": execution, "job_version": version.version, "job_version_id": version.id}
    started = change(writer, row, Started(), now, also=also)
    if started is None:
        return None
    number = {"run_id": row.id, "retries": row.retries, "attempt": row.attempt}
    writer.execute(_INSERT, {**number, "started_at": now})
    if job.settings.rate_limit_keys:
        note_start(writer, row, now)
    return started, version.settings


def settings_under_way(reader: Connection, row: Row[Any]) -> JobSettings | None:
    """Return the settings by which the attempt of a run was started; None if its job is gone."""
    version = version_at(reader, row.job_id, row.job_version)
    return None if version is None else version.settings


_LOCKED = select(run).where(run.c.id == bindparam("run")).with_for_update()
_INSERT = insert(attempt)
