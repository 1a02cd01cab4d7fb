"""The states of a run, and what changes them. All of it is pure.

`advance` returns the columns that an event changes, or raises. The database applies them with a comparison: the row
must still have the status, and the number of retries, from which the event was judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from sluice_agent.jobs.status import UNDER_WAY, Status


class TransitionError(Exception):
    """An event that can't happen to a run in its state."""


@dataclass(frozen=True, slots=True)
class RunState:
    """What decides how a run goes on. `retries` counts all attempts before this one, also those before a replay."""

    status: Status
    attempt: int
    retries: int
    max_attempts: int
    has_started: bool
    """True if an attempt was ever started: the run does not expire any more."""


class Ending(Enum):
    """How an attempt ended: by success, by a failure of which it is known whether another attempt helps, or by its
    deadline."""

    SUCCESS = "success"
    RETRYABLE = "retryable"
    FINAL = "final"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Due:
    """The time of a delayed run has come. `is_met` is true if what it depends on is."""

    is_met: bool


@dataclass(frozen=True, slots=True)
class Met:
    """What a run waits for has come."""


@dataclass(frozen=True, slots=True)
class Rescheduled:
    """A delayed run is given another time."""

    scheduled_at: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class Expired:
    """The time is over in which a run had to start. `error` is the reason, where it was published already."""

    error: str | None = None


@dataclass(frozen=True, slots=True)
class Canceled:
    """A run is not wanted any more."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run is about to be published. From `until` on its message may be taken for lost. `ticket_hash` has the hashes
    of the attempt's tickets (`tickets.add_ticket`); a Celery task has none, but its own `task_id`."""

    until: int
    ticket_hash: bytes | None
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Nothing may be sent to the endpoint of a queued run before `until`."""

    until: int


@dataclass(frozen=True, slots=True)
class Postponed:
    """The window of execution of a queued run's job is closed, and opens at `opening`."""

    opening: int


@dataclass(frozen=True, slots=True)
class Released:
    """A claimed run goes back unstarted: it may be claimed again from `available_at` on."""

    available_at: int


@dataclass(frozen=True, slots=True)
class Started:
    """A worker begins the attempt."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A worker reports, for the first time, the end of the attempt whose `RunState.retries` these were.

    `retry_at` is when the next one may begin, if there is one.
    """

    retries: int
    ending: Ending
    retry_at: int
    result: str | None = None
    error: str | None = None
    error_class: str | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """The endpoint has reported the end of its run by a call, before its answer. `result` is JSON."""

    result: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The endpoint has reported by a call that its run has failed, and is not to be tried again."""

    error: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker of an attempt is gone. `retry_at` is when the next one may begin, if there is one."""

    retry_at: int


@dataclass(frozen=True, slots=True)
class Faulted:
    """The server itself can't run it. It is not retried."""

    error: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """A dead letter begins again with its first attempt. `is_met` is true if what it depends on is."""

    is_met: bool


Event: TypeAlias = (
    Due
    | Met
    | Rescheduled
    | Expired
    | Canceled
    | Claimed
    | Held
    | Postponed
    | Released
    | Started
    | Finished
    | Completed
    | Failed
    | Lost
    | Faulted
    | Replayed
)

_UNCLAIMED: Mapping[str, Any] = {
    "task_id": None,
    "claimed_at": None,
    "claimed_until": None,
    "published_at": None,
    "started_at": None,
    "heartbeat_at": None,
}
_NEW_ATTEMPT: Mapping[str, Any] = {**_UNCLAIMED, "ticket_hash": None, "progress": None}
"""The columns of a claim and of the attempt that follows it, without either."""

Changes: TypeAlias = dict[str, Any]
"""New values of columns, the status among them."""


def advance(run: RunState, event: Event, now: int) -> Changes:
    """Return the columns of `run` that `event` changes at the moment `now`, the status among them.

    Raises `TransitionError` if it can't happen.
    """
    sources, change = _RULES[type(event)]
    if run.status not in sources:
        raise TransitionError(f"A run that is {run.status.value} can't be {type(event).__name__.lower()}.")
    return change(run, event, now)


def _due(_: RunState, event: Due, now: int) -> Changes:
    return _ready(now, is_met=event.is_met)


def _met(_run: RunState, _event: Met, now: int) -> Changes:
    return _ready(now, is_met=True)


def _rescheduled(_run: RunState, event: Rescheduled, _now: int) -> Changes:
    times = {"scheduled_at": event.scheduled_at, "available_at": event.scheduled_at, "expires_at": event.expires_at}
    return {"status": Status.DELAYED, **times}


def _expired(run: RunState, event: Expired, now: int) -> Changes:
    if run.has_started:
        raise TransitionError("A run that has started does not expire.")
    return _ended(Status.EXPIRED, now) | ({} if event.error is None else {"error": event.error})


def _canceled(_run: RunState, _event: Canceled, now: int) -> Changes:
    return _ended(Status.CANCELED, now)


def _claimed(_: RunState, event: Claimed, now: int) -> Changes:
    ticket = {"claimed_at": now, "claimed_until": event.until, "ticket_hash": event.ticket_hash}
    return {"status": Status.DEQUEUED, "published_at": None, "task_id": event.task_id, **ticket}


def _held(_run: RunState, event: Held, _now: int) -> Changes:
    return {"status": Status.QUEUED, "available_at": event.until, "is_ready": False}


def _postponed(_run: RunState, event: Postponed, _now: int) -> Changes:
    times = {"scheduled_at": event.opening, "available_at": event.opening, "next_retry_at": None}
    return {"status": Status.DELAYED, **times}


def _released(_run: RunState, event: Released, now: int) -> Changes:
    is_ready = event.available_at <= now
    return {"status": Status.QUEUED, "available_at": event.available_at, "is_ready": is_ready, **_UNCLAIMED}


def _started(run: RunState, _: Started, now: int) -> Changes:
    first = {} if run.has_started else {"first_started_at": now}
    return {"status": Status.EXECUTING, "started_at": now, "heartbeat_at": now, **first}


def _finished(run: RunState, event: Finished, now: int) -> Changes:
    """Return what the end of an attempt changes. The end of an attempt that was counted as lost arrives late: it holds
    while the next attempt has not started, unless it is a failure after which that attempt follows anyway."""
    is_current = run.status is Status.EXECUTING and event.retries == run.retries
    is_late = run.status is not Status.EXECUTING and event.retries == run.retries - 1 and run.attempt > 1
    if not is_current and not is_late:
        raise TransitionError(f"The attempt is not under way: the run is {run.status.value}.")
    outcome = {"result": event.result, "error": event.error, "error_class": event.error_class}
    match event.ending:
        case Ending.SUCCESS:
            return _ended(Status.COMPLETED, now) | outcome
        case Ending.FINAL:
            return _ended(Status.DEAD_LETTER, now) | outcome
        case Ending.RETRYABLE | Ending.DEADLINE if is_late:
            return {"status": run.status, **outcome}
        case Ending.RETRYABLE:
            return _retried(run, event.retry_at, now, Status.DEAD_LETTER) | outcome
        case Ending.DEADLINE:
            return _retried(run, event.retry_at, now, Status.TIMED_OUT) | outcome


def _completed(_run: RunState, event: Completed, now: int) -> Changes:
    return _ended(Status.COMPLETED, now) | {"result": event.result, "error": None, "error_class": None}


def _failed(_run: RunState, event: Failed, now: int) -> Changes:
    return _ended(Status.FAILED, now) | {"result": None, "error": event.error, "error_class": "reported"}


def _lost(run: RunState, event: Lost, now: int) -> Changes:
    outcome = {"error": "the worker that executed the run is gone", "error_class": "lost"}
    return _retried(run, event.retry_at, now, Status.CRASHED) | outcome


def _faulted(_: RunState, event: Faulted, now: int) -> Changes:
    return _ended(Status.SYSTEM_FAILED, now) | {"error": event.error, "error_class": "system"}


def _replayed(run: RunState, event: Replayed, now: int) -> Changes:
    number = {"attempt": 1, "retries": run.retries + 1}
    outcome = dict.fromkeys(("finished_at", "result", "error", "error_class", "execution_trace", "next_retry_at"))
    return {**_NEW_ATTEMPT, **outcome, **number, **_ready(now, is_met=event.is_met)}


def _ready(now: int, *, is_met: bool) -> Changes:
    """Return the change to a run that can be claimed, or waits for runs of other jobs."""
    return {"status": Status.QUEUED if is_met else Status.WAITING, "available_at": now, "is_ready": True}


def _ended(status: Status, now: int) -> Changes:
    return {"status": status, "finished_at": now, "next_retry_at": None}


def _retried(run: RunState, retry_at: int, now: int, last: Status) -> Changes:
    """Return the change to the next attempt, or to the status `last` after the last one."""
    if run.attempt >= run.max_attempts:
        return _ended(last, now)
    number = {"attempt": run.attempt + 1, "retries": run.retries + 1}
    times = {"next_retry_at": retry_at, "available_at": retry_at, "is_ready": False}
    return {"status": Status.QUEUED, **_NEW_ATTEMPT, **number, **times}


_RULES: Mapping[type, tuple[tuple[Status, ...], Callable[[RunState, Any, int], Changes]]] = {
    Due: ((Status.DELAYED,), _due),
    Met: ((Status.WAITING,), _met),
    Rescheduled: ((Status.DELAYED,), _rescheduled),
    Expired: ((Status.DELAYED, Status.QUEUED, Status.WAITING, Status.DEQUEUED), _expired),
    Canceled: (UNDER_WAY, _canceled),
    Claimed: ((Status.QUEUED,), _claimed),
    Held: ((Status.QUEUED,), _held),
    Postponed: ((Status.QUEUED,), _postponed),
    Released: ((Status.DEQUEUED,), _released),
    Started: ((Status.DEQUEUED,), _started),
    Finished: ((Status.EXECUTING, Status.QUEUED, Status.DEQUEUED, Status.DELAYED, Status.WAITING), _finished),
    Completed: ((Status.EXECUTING,), _completed),
    Failed: ((Status.EXECUTING,), _failed),
    Lost: ((Status.EXECUTING,), _lost),
    Faulted: ((Status.DEQUEUED, Status.EXECUTING), _faulted),
    Replayed: ((Status.DEAD_LETTER,), _replayed),
}
"""Of each event: the states in which it can happen, and what it changes."""
