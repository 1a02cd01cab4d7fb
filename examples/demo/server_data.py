"""Read the jobs from the local Sluice, and the agent's counters."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from examples.demo.processes import DemoError

FINAL = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Job:
    """A job as in ``GET /api/jobs``."""

    id: str
    external_id: str
    name: str
    state: str
    wait_ms: float | None
    run_ms: float | None

    @property
    def is_final(self) -> bool:
        """True if it has ended."""
        return self.state in FINAL


@dataclass(frozen=True)
class Counters:
    """The agent's counters of events, from ``sluice-agent status --json``."""

    captured: int
    delivered: int
    rejected: int
    dropped: dict[str, int]
    pending: int

    @property
    def add_up(self) -> bool:
        """True if every event is accounted for."""
        return self.captured == self.delivered + self.rejected + sum(self.dropped.values()) + self.pending


def jobs(api: httpx.Client) -> dict[str, Job]:
    """Return every job that the server knows, by Celery's id."""
    jobs_by_id: dict[str, Job] = {}
    cursor = None
    while True:
        page = _get(api, "/jobs", {"limit": 100} | ({"cursor": cursor} if cursor else {}))
        jobs_by_id.update((job["externalId"], _job(job)) for job in page["data"])
        cursor = page["pagination"].get("nextCursor")
        if not cursor:
            return jobs_by_id


def details(api: httpx.Client, job: Job) -> dict[str, Any]:
    """Return a job with its history."""
    return _get(api, f"/jobs/{job.id}", {})


def counters(command: Path, env: dict[str, str]) -> Counters:
    """Return the agent's counters, read from its journal."""
    status = subprocess.run(  # noqa: S603 the command is the demo's own
        [str(command), "status", "--json"], env=env, capture_output=True, text=True, check=False, timeout=30
    )
    try:
        figures = json.loads(status.stdout)
        return Counters(**{name: figures[name] for name in Counters.__annotations__})
    except (ValueError, KeyError) as error:
        raise DemoError(f"sluice-agent status --json: {error!r}\n{status.stdout}{status.stderr}") from error


def parse_time(timestamp: str) -> datetime:
    """Return the time of a timestamp on the wire."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00"))


def _get(api: httpx.Client, path: str, params: dict[str, Any]) -> dict[str, Any]:
    try:
        response = api.get(path, params=params).raise_for_status()
    except httpx.HTTPError as error:
        raise DemoError(f"the server does not answer GET {path}: {error}") from error
    body: dict[str, Any] = response.json()
    return body


def _job(job: dict[str, Any]) -> Job:
    return Job(
        id=job["id"],
        external_id=job["externalId"],
        name=job["name"],
        state=job["state"],
        wait_ms=_milliseconds_between(job.get("createdAt"), job.get("startedAt")),
        run_ms=_milliseconds_between(job.get("startedAt"), job.get("completedAt")),
    )


def _milliseconds_between(start: str | None, end: str | None) -> float | None:
    return (parse_time(end) - parse_time(start)).total_seconds() * 1000 if start and end else None
