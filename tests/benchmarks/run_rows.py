"""Many runs that have ended, in the database of the jobs API before its server starts.

A fourth of them are of the first job, which also has many versions; the last one has attempts and a log.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import insert

from sluice_agent.jobs.definitions.jobs import Change, create_job, update_job
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.store.ids import new_id
from sluice_agent.jobs.store.schema import attempt, run, run_log
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.store.database import Database

_JOBS = 40
_GROUP = 10_000
_SECOND = 1_000_000  # microseconds
_FAILED = 100  # one run of so many
_VERSIONS, _ATTEMPTS, _LINES = 200, 20, 1_000
_TRACE = json.dumps({"connect_ms": 12, "ttfb_ms": 240, "transfer_ms": 3, "dispatch_ms": 255, "total_ms": 260})


def fill(database: Database, count: int, end: datetime | None = None) -> None:
    """Add so many runs of forty jobs, one each second until `end`, which is now without one; a hundredth of them has
    failed."""
    store = JobsStore(database, lambda: end or datetime.now(timezone.utc))
    moment = store.moment
    with store.writing() as writer:
        jobs = [
            create_job(writer, "filled", each, Change("bench", moment + number), enabled=True)
            for number, each in enumerate(_settings())
        ]
        for number in range(_VERSIONS):
            changed = jobs[0].settings.model_copy(update={"description": f"Change {number}"})
            jobs[0] = update_job(writer, jobs[0], changed, Change("bench", moment), enabled=True)
    for start in range(0, count, _GROUP):
        with store.writing() as writer:
            rows = list(_rows(jobs, moment - count * _SECOND, start, min(start + _GROUP, count)))
            writer.execute(insert(run), rows)
    if count:
        with store.writing() as writer:
            writer.execute(insert(attempt), [_attempt(rows[-1], number) for number in range(_ATTEMPTS)])
            writer.execute(insert(run_log), [_line(rows[-1], number) for number in range(1, _LINES + 1)])
    store.close()


def _settings() -> Iterator[JobSettings]:
    """Yield the settings of all jobs: each tenth is fired by cron, each minute."""
    for number in range(_JOBS):
        cron = "" if number % 10 else "* * * * *"
        yield JobSettings(name=f"Job {number}", slug=f"job-{number}", endpoint_url="http://127.0.0.1:9/", cron=cron)


def _attempt(of: dict[str, Any], retries: int) -> dict[str, Any]:
    times = {"started_at": of["created_at"], "finished_at": of["finished_at"]}
    error = {"status_code": 503, "error_class": "server", "error": f"503: no room for {retries}"}
    return {"run_id": of["id"], "retries": retries, "attempt": retries + 1, **times, **error, "trace": _TRACE}


def _line(of: dict[str, Any], number: int) -> dict[str, Any]:
    message = hashlib.sha256(str(number).encode()).hexdigest() * 10
    line = {"number": number, "attempt": 1, "at": of["created_at"], "level": "info", "message": message}
    return {"run_id": of["id"], **line, "data": json.dumps({"line": number})}


def _rows(jobs: list[Any], moment: int, start: int, end: int) -> Iterator[dict[str, Any]]:
    for number in range(start, end):
        job = jobs[number % len(jobs) if number % 4 else 0]
        created = moment + number * _SECOND
        payload = json.dumps({"order": number})
        yield {
            "id": new_id(created),
            "job_id": job.id,
            "project_id": "filled",
            "status": "completed" if number % _FAILED else "dead_letter",
            "attempt": 1,
            "priority": 0,
            "payload": payload,
            "payload_hash": hashlib.sha256(payload.encode()).hexdigest(),
            "triggered_by": "manual",
            "created_by": "bench",
            "created_at": created,
            "job_version": job.version,
            "job_version_id": job.version_id,
            "debug_mode": False,
            "available_at": created,
            "first_started_at": created,
            "started_at": created,
            "finished_at": created + _SECOND,
            "result": '{"sent":true}',
        }
