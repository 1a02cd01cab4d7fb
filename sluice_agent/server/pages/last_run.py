"""How long the last run of a job waited and took, from the fields of lists and records: the same on all pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sluice_agent.server.timestamps import moment_of

_WAITING = ("queued", "scheduled")


class LastRun(NamedTuple):
    """The last run of a job. `wait` are the milliseconds from when it could have started until it did, None if that is
    not known, and `run` those that it took; each so far while it goes on."""

    wait: int | None
    is_waiting: bool
    run: int | None
    is_running: bool


def last_run_of(job: Mapping[str, Any], attempt: int, now: int) -> LastRun:
    """Return the last run of a job, given its fields as in the API, at the moment `now`."""
    started = moment_of(job["startedAt"])
    is_waiting = job["state"] in _WAITING and started is None
    is_running = job["state"] == "active" and started is not None
    ready, waited_until = _ready(job, attempt), now if is_waiting else started
    wait = None if ready is None or waited_until is None else max(0, waited_until - ready) // 1_000
    run = max(0, now - started) // 1_000 if is_running and started is not None else job["durationMs"]
    return LastRun(wait, is_waiting, run, is_running)


def _ready(job: Mapping[str, Any], attempt: int) -> int | None:
    """Return from when the run could have started: its ETA, or else the creation of the job. Of a retry only the ETA is
    known, which it has unless it was published without a delay."""
    created, eta = moment_of(job["createdAt"]), moment_of(job["scheduledFor"])
    is_of_this_run = eta is not None and (created is None or eta > created)
    return eta if is_of_this_run else created if attempt == 1 else None
