"""Events as a client writes them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx

CONNECTION = "550e8400-e29b-41d4-a716-446655440000"
TEN = datetime(2026, 2, 27, 10, tzinfo=timezone.utc)


class Clock:
    """A clock that a test sets, in seconds after ten o'clock."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> datetime:
        return TEN + timedelta(seconds=self.seconds)


def at(seconds: float) -> str:
    """Return a timestamp `seconds` after ten o'clock of one morning."""
    minutes, rest = divmod(seconds, 60)
    return f"2026-02-27T10:{int(minutes):02}:{rest:06.3f}Z"


def job_event(state: str, seconds: float, *, event_id: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a transition of the job ``job-1``; `fields` are fields of `job`, by their wire names."""
    extensions = fields.pop("extensions", {}) | ({"eventId": event_id} if event_id else {})
    job = {"externalId": "job-1", "name": "app.tasks.send_email", "state": state, **fields}
    return {
        "type": "job_state_change",
        "timestamp": at(seconds),
        "framework": "celery",
        "connectionId": CONNECTION,
        "job": job | ({"extensions": extensions} if extensions else {}),
    }


def with_id(event: dict[str, Any]) -> dict[str, Any]:
    """Return `event` with an id, so that it has the same key in every connection."""
    job = event["job"]
    extensions = {**job.get("extensions", {}), "eventId": json.dumps(event, sort_keys=True)}
    return {**event, "job": {**job, "extensions": extensions}}


def ingest(client: httpx.Client, *events: Any) -> dict[str, Any]:
    """Post a batch of `events` and return the server's answer."""
    response = client.post("/ingest", json={"events": events})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def counts(answer: dict[str, Any]) -> tuple[int, int, int, int]:
    """Return the counts of accepted, rejected, skipped and truncated events."""
    return answer["accepted"], answer["rejected"], answer["skipped"], answer["truncated"]


def run(name: str, begin: float, state: str, *, seconds: float = 2, queue: str = "mail", **fields: Any) -> list[Any]:
    """Return the events of a job that waits a second and runs `seconds`."""
    job = {"externalId": f"{name} {begin}", "name": name, "queue": queue, "workerId": "celery@w", **fields}
    times = {"createdAt": at(begin), "startedAt": at(begin + 1)}
    return [
        job_event("queued", begin, **job, createdAt=at(begin)),
        job_event("active", begin + 1, **job, **times),
        job_event(state, begin + 1 + seconds, **job, **times, completedAt=at(begin + 1 + seconds)),
    ]


def worker_event(state: str, seconds: float, name: str = "celery@w", **fields: Any) -> dict[str, Any]:
    """Return an event of a worker, by default of a heartbeat's type."""
    return {
        "type": "worker_heartbeat" if state == "heartbeat" else "worker_state_change",
        "timestamp": at(seconds),
        "framework": "celery",
        "connectionId": CONNECTION,
        "worker": {"externalId": name, "hostname": name.partition("@")[2], "state": state, **fields},
    }


def snapshot(name: str, seconds: float, depth: int, **fields: Any) -> dict[str, Any]:
    """Return a snapshot of a queue."""
    return {
        "type": "queue_snapshot",
        "timestamp": at(seconds),
        "framework": "celery",
        "connectionId": CONNECTION,
        "queue": {"name": name, "depth": depth, **fields},
    }
