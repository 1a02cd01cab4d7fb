"""A job's record as a pure function of its events, independent of the order in which they arrived."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid5

from sluice_agent.model import UNNAMED
from sluice_agent.server.record.history import Step, history_of
from sluice_agent.server.timestamps import instant, milliseconds_between, to_utc

_STATE_EXTENSIONS = ("reason", "terminated", "signum", "expired")  # extensions that explain one state, not the job

Record = dict[str, Any]
"""The response of ``GET /api/jobs/{id}`` without ``recentExecutions``: the documented fields, None if unknown."""


def job_id(connection_id: str, external_id: str) -> str:
    """Return Sluice's id of a job: a UUID that depends only on its connection and its framework's id."""
    return str(uuid5(UUID(connection_id), external_id))


def record_of(bodies: Iterable[str]) -> Record:
    """Return the record of the job whose stored events are `bodies`. There is at least one.

    Fields of the run (start, end, progress, error) come from the latest run; fields of the job from the latest event
    that has them, where a name replaces none. A time that no event names is taken from the transition that it belongs
    to, except ``createdAt``: only its producer knows when a job was dispatched.
    """
    steps = sorted(map(Step.of, bodies), key=lambda step: step.order)
    history, excluded = history_of(steps)
    all_steps = [*excluded, *(step for entry in history for step in entry.steps)]
    latest = {key: value for step in all_steps for key, value in step.job.items()}
    extensions = {key: value for step in all_steps for key, value in step.job.get("extensions", {}).items()}
    extensions.pop("eventId", None)
    for name in _STATE_EXTENSIONS:  # those of other states and of excluded events do not explain the present state
        extensions.pop(name, None)
    for step in history[-1].steps:
        state_extensions = step.job.get("extensions", {})
        extensions |= {name: state_extensions[name] for name in _STATE_EXTENSIONS if name in state_extensions}
    created = min((step.job["createdAt"] for step in all_steps if "createdAt" in step.job), key=instant, default=None)
    names = [step.job["name"] for step in all_steps if step.job["name"] != UNNAMED]
    last, event = history[-1], all_steps[-1].event
    started, completed = last.run.started_at, last.completed_at
    connection_id, external_id = event["connectionId"].lower(), latest["externalId"]
    return {
        "id": job_id(connection_id, external_id),
        "externalId": external_id,
        "framework": event["framework"],
        "connectionId": connection_id,
        "name": names[-1] if names else UNNAMED,
        "queue": latest.get("queue"),
        "tags": _object(extensions.get("tags")),
        "state": last.state,
        "stateChangedAt": last.timestamp,
        "previousState": history[-2].state if len(history) > 1 else last.steps[-1].job.get("previousState"),
        "createdAt": created,
        "scheduledFor": to_utc(extensions.get("eta")),
        "startedAt": started,
        "completedAt": completed,
        "durationMs": milliseconds_between(started, completed) if started and completed else None,
        "workerId": latest.get("workerId"),
        "attempt": last.attempt,
        "maxRetries": latest.get("maxRetries"),
        "progress": last.run.progress,
        "args": extensions.get("args"),
        "result": extensions.get("result"),
        "error": last.latest("error"),
        "stacktrace": last.latest("stacktrace"),
        "parentId": _text(extensions.get("parentId")),
        "rootId": _text(extensions.get("rootId")),
        "extensions": extensions,
        "stateHistory": [{"state": entry.state, "timestamp": entry.timestamp} for entry in history],
    }


def sort_instant(record: Record) -> str:
    """Return the earliest known instant of the job, by which lists of jobs are sorted."""
    return min(instant(time) for time in (record["createdAt"], record["stateHistory"][0]["timestamp"]) if time)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
