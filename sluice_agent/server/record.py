"""A job's record as a pure function of its events: the order in which they arrived is not in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid5

from sluice_agent.model import UNNAMED
from sluice_agent.server.history import Step, history_of
from sluice_agent.server.timestamps import in_utc, instant, milliseconds_between

_OF_A_STATE = ("reason", "terminated", "signum", "expired")  # extensions that explain one state, not the job

Record = dict[str, Any]
"""The answer of ``GET /api/jobs/{id}`` without ``recentExecutions``: the documented fields, None where unknown."""


def job_id(connection_id: str, external_id: str) -> str:
    """Sluice's own id of a job: a UUID that depends on its connection and its framework's id, and on nothing else."""
    return str(uuid5(UUID(connection_id), external_id))


def record_of(bodies: Iterable[str]) -> Record:
    """The record of the job that `bodies`, its events as they are stored, tell of. There is at least one.

    What describes the run (start, end, progress, error) is the latest run's; what describes the job is the latest word
    of any event, where a name is better than none. A time that no event names is taken from the transition that it
    belongs to, except ``createdAt``: only its producer knows when a job was dispatched.
    """
    steps = sorted(map(Step.of, bodies), key=lambda step: step.order)
    walk, aside = history_of(steps)
    told = [*aside, *(step for entry in walk for step in entry.steps)]
    latest = {key: value for step in told for key, value in step.job.items()}
    extensions = {key: value for step in told for key, value in step.job.get("extensions", {}).items()}
    extensions.pop("eventId", None)
    for name in _OF_A_STATE:  # what explains another state than the present one, or an event set aside, is not its own
        extensions.pop(name, None)
    for step in walk[-1].steps:
        stated = step.job.get("extensions", {})
        extensions |= {name: stated[name] for name in _OF_A_STATE if name in stated}
    created = min((step.job["createdAt"] for step in told if "createdAt" in step.job), key=instant, default=None)
    names = [step.job["name"] for step in told if step.job["name"] != UNNAMED]
    last, event = walk[-1], told[-1].event
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
        "previousState": walk[-2].state if len(walk) > 1 else last.steps[-1].job.get("previousState"),
        "createdAt": created,
        "scheduledFor": in_utc(extensions.get("eta")),
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
        "stateHistory": [{"state": entry.state, "timestamp": entry.timestamp} for entry in walk],
    }


def first_known(record: Record) -> str:
    """The instant at which the job came to be, as far as anyone knows: what lists of jobs are sorted by."""
    return min(instant(time) for time in (record["createdAt"], record["stateHistory"][0]["timestamp"]) if time)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
