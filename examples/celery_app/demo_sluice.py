"""What the local Sluice and the agent's own counters say."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from examples.celery_app.demo_processes import DemoError

FINAL = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class Job:
    """A job as ``GET /api/jobs`` lists it."""

    id: str
    external_id: str
    name: str
    state: str
    wait_ms: float | None
    run_ms: float | None

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in FINAL


@dataclass(frozen=True)
class Counters:
    """``sluice-agent status --json``: what became of every event that was captured."""

    captured: int
    delivered: int
    rejected: int
    dropped: dict[str, int]
    pending: int

    @property
    def add_up(self) -> bool:
        """Whether every event is accounted for."""
        return self.captured == self.delivered + self.rejected + sum(self.dropped.values()) + self.pending


def jobs(api: httpx.Client) -> dict[str, Job]:
    """Every job that the server knows, by Celery's id."""
    found: dict[str, Job] = {}
    cursor = None
    while True:
        page = _get(api, "/jobs", {"limit": 100} | ({"cursor": cursor} if cursor else {}))
        found.update((job["externalId"], _job(job)) for job in page["data"])
        cursor = page["pagination"].get("nextCursor")
        if not cursor:
            return found


def details(api: httpx.Client, job: Job) -> dict[str, Any]:
    """A job with its history."""
    return _get(api, f"/jobs/{job.id}", {})


def counters(command: Path, env: dict[str, str]) -> Counters:
    """The agent's counters, read from its journal."""
    status = subprocess.run(  # noqa: S603 the command is the demo's own
        [str(command), "status", "--json"], env=env, capture_output=True, text=True, check=False, timeout=30
    )
    try:
        figures = json.loads(status.stdout)
        return Counters(**{name: figures[name] for name in Counters.__annotations__})
    except (ValueError, KeyError) as error:
        raise DemoError(f"sluice-agent status --json: {error!r}\n{status.stdout}{status.stderr}") from error


def moment(timestamp: str) -> datetime:
    """A time on the wire."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00"))


def _get(api: httpx.Client, path: str, params: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = api.get(path, params=params).raise_for_status()
    except httpx.HTTPError as error:
        raise DemoError(f"the server does not answer GET {path}: {error}") from error
    body: dict[str, Any] = answer.json()
    return body


def _job(job: dict[str, Any]) -> Job:
    return Job(
        id=job["id"],
        external_id=job["externalId"],
        name=job["name"],
        state=job["state"],
        wait_ms=_between(job.get("createdAt"), job.get("startedAt")),
        run_ms=_between(job.get("startedAt"), job.get("completedAt")),
    )


def _between(start: str | None, end: str | None) -> float | None:
    return (moment(end) - moment(start)).total_seconds() * 1000 if start and end else None
