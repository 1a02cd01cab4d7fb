"""A step: one event of a job, with the order in which the history takes it, whenever it arrived."""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct

from sluice_agent.model import JobState
from sluice_agent.server.timestamps import moment_of, to_instant

Order = tuple[int, int, int, bytes]
"""The instant; then the attempt and the natural order of the states; then the key, for a stable order."""

Reporter = tuple[int | None, str | None, str | None]
"""The attempt, the start and the worker that a report of progress names: those of one run are alike."""

WAITING = ("queued", "scheduled")
ENDED = tuple(state.value for state in JobState if state.is_final)
_NATURAL_ORDER = {state: index for index, state in enumerate((*WAITING, "active", "retrying", "unknown", *ENDED))}


class Step(Struct, frozen=True, gc=False):
    """One event of a job: the event, its job and its extensions as on the wire, and what the history compares.

    Times are instants, None if they are not known. `at` is the event's, but not before the start that the event names;
    `start` is that of its execution; before `eta` the job may not start, nor after `expires`.
    """

    event: dict[str, Any]
    job: dict[str, Any]
    extensions: dict[str, Any]
    state: str
    timestamp: int
    at: int
    created: int | None
    started: int | None
    start: int | None
    eta: int | None
    expires: int | None
    is_redelivered: bool
    """The broker has delivered the job again, or will do so."""
    order: Order

    @property
    def is_waiting(self) -> bool:
        """True if the job waits to be run."""
        return self.state in WAITING

    @property
    def is_progress(self) -> bool:
        """True if it reports progress. Such an event never begins a run whose start it does not name."""
        return self.state == "active" and "progress" in self.job

    @property
    def reporter(self) -> Reporter:
        """The run whose progress it reports."""
        return self.job.get("attempt"), self.job.get("startedAt"), self.job.get("workerId")


class Fields(Struct, frozen=True, gc=False, array_like=True):
    """What some steps report together, as if one had: the parts of an event that a record is made of."""

    event: dict[str, Any]
    job: dict[str, Any]
    extensions: dict[str, Any]


Reported: TypeAlias = Step | Fields
"""Of both, a later one replaces the fields of one before."""


def step_of(event: dict[str, Any], key: bytes) -> Step:
    """Return the step in `event`, which the contract allows. `key` differs from those of the job's other steps."""
    job = event["job"]
    extensions = job.get("extensions") or {}
    state = job["state"]
    at = timestamp = to_instant(event["timestamp"])
    created = to_instant(job["createdAt"]) if "createdAt" in job else None
    is_redelivered = bool(extensions.get("redelivered") or extensions.get("requeued"))
    start = started = eta = expires = None
    if "startedAt" in job:
        start = started = to_instant(job["startedAt"])
        at = max(at, start)
    elif is_redelivered and state == "active" and "progress" not in job:
        start = at
    if "eta" in extensions and (moment := moment_of(extensions["eta"])) is not None:
        eta = moment * 1_000
    if "expires" in extensions and (moment := moment_of(extensions["expires"])) is not None:
        expires = moment * 1_000
    order = (at, job.get("attempt", 1), _NATURAL_ORDER[state], key)
    return Step(
        event, job, extensions, state, timestamp, at, created, started, start, eta, expires, is_redelivered, order
    )
