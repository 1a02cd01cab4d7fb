"""The start of an attempt: a run that was claimed is executed by who comes first with a ticket of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select

from sluice_agent.jobs.attempts.records import Spec
from sluice_agent.jobs.definitions.jobs import Job, find_jobs
from sluice_agent.jobs.definitions.secrets import signing_secrets
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.definitions.versions import version_at, version_to_start
from sluice_agent.jobs.environments import Environments, UnknownEnvironmentError, environment_of
from sluice_agent.jobs.execution.requests import StartRequest
from sluice_agent.jobs.execution.spec import spec_of
from sluice_agent.jobs.execution.turns import in_turns
from sluice_agent.jobs.runs.changes import Step, change, change_locked, state_of
from sluice_agent.jobs.runs.named_limits import note_start
from sluice_agent.jobs.runs.tickets import is_valid
from sluice_agent.jobs.runs.transitions import Faulted, Released, Started, advance
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.id_lists import id_list
from sluice_agent.jobs.store.schema import attempt, run


@dataclass(frozen=True, slots=True)
class StartRules:
    """What all attempts of a server have in common. `allows_private`: requests may go to private addresses."""

    token_secret: bytes
    allows_private: bool
    environments: Environments | None = None


def start_attempts(
    writer: Connection, wanted: Sequence[tuple[str, StartRequest]], now: int, rules: StartRules
) -> list[Spec | None]:
    """Start attempts of the runs with these ids, and return the requests of each. None: the message is to be dropped.

    The same execution gets the same answer again while its attempt is under way. A run whose job was disabled or paused
    since its claim goes back, and waits until the job is enabled or resumed. One whose job names none of the
    environments ends.
    """
    return in_turns(wanted, lambda requests: _start(writer, requests, now, rules))


def _start(writer: Connection, requests: Mapping[str, StartRequest], now: int, rules: StartRules) -> dict[str, Spec]:
    rows: list[Row[Any]] = list(writer.execute(_LOCKED, {"runs": id_list(requests)}))
    rows = [row for row in rows if row.attempt == requests[row.id].attempt]
    jobs = find_jobs(writer, {row.job_id for row in rows})
    begun: list[tuple[Any, JobSettings]] = []
    to_begin: list[Row[Any]] = []
    for row in rows:
        if row.status == Status.EXECUTING.value and row.execution == requests[row.id].execution:
            settings = settings_under_way(writer, row)
            begun += [] if settings is None else [(row, settings)]
        elif row.status == Status.DEQUEUED.value and is_valid(row.ticket_hash, requests[row.id].ticket):
            to_begin.append(row)
    begun += _begin(writer, to_begin, jobs, requests, now)
    specs = ((row.id, _spec(writer, row, settings, jobs.get(row.job_id), now, rules)) for row, settings in begun)
    return {run_id: spec for run_id, spec in specs if spec is not None}


def _begin(
    writer: Connection,
    rows: Sequence[Row[Any]],
    jobs: Mapping[str, Job],
    requests: Mapping[str, StartRequest],
    now: int,
) -> list[tuple[Any, JobSettings]]:
    """Let the attempts of claimed runs begin; return their rows, each with the settings that it begins with."""
    steps: list[Step] = []
    begins_with: list[JobSettings] = []
    for row in rows:
        job = jobs.get(row.job_id)
        if job is None:
            change(writer, row, Faulted("the job of the run is gone"), now)
        elif not job.enabled or job.paused_at is not None:
            change(writer, row, Released(now), now)
        else:
            version = version_to_start(writer, job, row.job_version)
            is_of = {"job_version": version.version, "job_version_id": version.id}
            also = {"execution": requests[row.id].execution, **is_of}
            steps.append(Step(row, Started(), {**advance(state_of(row), Started(), now), **also}))
            begins_with.append(version.settings)
    if not steps:
        return []
    started = change_locked(writer, steps, now)
    writer.execute(
        _INSERT,
        [{"run_id": row.id, "retries": row.retries, "attempt": row.attempt, "started_at": now} for row in started],
    )
    for row in started:
        if jobs[row.job_id].settings.rate_limit_keys:
            note_start(writer, row, now)
    return list(zip(started, begins_with, strict=True))


def _spec(
    writer: Connection, row: Any, settings: JobSettings, job: Job | None, now: int, rules: StartRules
) -> Spec | None:
    """Return the requests of an attempt that has begun; None if it has no environment: its run ends."""
    try:
        environment = environment_of(rules.environments, settings.environment_id, row.project_id)
    except UnknownEnvironmentError as error:
        change(writer, row, Faulted(f"the attempt has no environment: {error}"), now)
        return None
    is_signed = job is not None and bool(job.settings.webhook_secret)
    secrets = signing_secrets(writer, row.job_id, now) if is_signed else ()
    return spec_of(row, settings, environment, secrets, rules.token_secret, allows_private=rules.allows_private)


def settings_under_way(reader: Connection, row: Row[Any]) -> JobSettings | None:
    """Return the settings by which the attempt of a run was started; None if its job is gone."""
    version = version_at(reader, row.job_id, row.job_version)
    return None if version is None else version.settings


_LOCKED = select(run).where(run.c.id.in_(bindparam("runs", expanding=True))).order_by(run.c.id).with_for_update()
_INSERT = insert(attempt)
