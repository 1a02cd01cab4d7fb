"""Many runs that have ended, in the database of the jobs API before its server starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import insert

from sluice_agent.jobs.definitions.jobs import Change, create_job
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.store.ids import new_id
from sluice_agent.jobs.store.schema import run
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.store.database import Database

_JOBS = 40
_GROUP = 10_000
_SECOND = 1_000_000  # microseconds
_FAILED = 100  # one run of so many


def fill(database: Database, count: int) -> None:
    """Add so many runs of forty jobs, one each second until now; a hundredth of them has failed."""
    store = JobsStore(database, lambda: datetime.now(timezone.utc))
    moment = store.moment
    with store.writing() as writer:
        settings = [
            JobSettings(name=f"Job {number}", slug=f"job-{number}", endpoint_url="http://127.0.0.1:9/")
            for number in range(_JOBS)
        ]
        jobs = [create_job(writer, "filled", each, Change("bench", moment), enabled=True) for each in settings]
    for start in range(0, count, _GROUP):
        with store.writing() as writer:
            writer.execute(insert(run), list(_rows(jobs, moment - count * _SECOND, start, min(start + _GROUP, count))))
    store.close()


def _rows(jobs: list[Any], moment: int, start: int, end: int) -> Iterator[dict[str, Any]]:
    for number in range(start, end):
        job = jobs[number % len(jobs)]
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
            "job_version": 1,
            "job_version_id": job.version_id,
            "debug_mode": False,
            "available_at": created,
            "first_started_at": created,
            "started_at": created,
            "finished_at": created + _SECOND,
            "result": '{"sent":true}',
        }
