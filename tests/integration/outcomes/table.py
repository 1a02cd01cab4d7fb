"""The rows of the table, and their expected walks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

PREFORK, THREADS, SOLO, GEVENT, EVENTLET = "prefork", "threads", "solo", "gevent", "eventlet"
POOLS = (PREFORK, THREADS, SOLO, GEVENT, EVENTLET)
ALL = "*"

Step = tuple[str, int | None]
Walk = tuple[Step, ...]
Version = tuple[int, ...]


class ExpectedWalks:
    """The walks of a row's job, by pool, broker and Celery version."""

    __slots__ = ()

    walks: Mapping[str, str | None]
    """The walks that agents report."""
    monitor_walks: Mapping[str, str | None]
    """The walks that a monitor reports from Celery events alone, if not those of the agents; "": none."""

    def walk(self, pool: str, version: Version, broker: str = "") -> Walk | None:
        """Return the expected walk in `pool` under a Celery of `version`; None if that can't happen."""
        return matching_walk(self.walks, pool, version, broker)

    def monitor_walk(self, pool: str, version: Version, broker: str = "") -> Walk | None:
        """Return the walk that a monitor reports from Celery events alone."""
        walk = self.walk(pool, version, broker)
        try:
            return walk if walk is None else matching_walk(self.monitor_walks, pool, version, broker)
        except KeyError:
            return walk


@dataclass(frozen=True, slots=True)
class Outcome(ExpectedWalks):
    """One way in which a job ends.

    `send` runs in a producer process that has the agent; it returns the job's id. `walks` are the expected walks by
    pool, broker and Celery version: ``"queued active retrying active/2 completed/2"``; ``/2`` is the attempt. The most
    specific key wins: ``"prefork@redis<5.7"``, ``"prefork@redis"``, ``"prefork<5.7"``, ``"prefork"``, ``"@redis"``,
    ``"<5.7"``, ``"*"``. None: the outcome can't happen, or would report nothing of a job.
    """

    name: str
    description: str
    send: Callable[[], str]
    walks: Mapping[str, str | None]
    error: str | None = None
    """Pattern that the error matches, in the walks that end with `failed`."""
    stacktrace: str | None = None
    """Pattern that the last stacktrace contains."""
    extensions: Mapping[str, Any] = field(default_factory=dict)
    """Extensions that the last event has at least; ``...`` stands for any value."""
    of_state: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The same for the last event of a state, in the walks that have this state."""
    job: Mapping[str, Any] = field(default_factory=dict)
    """Fields that the last event's job has at least."""
    note: str = ""
    """Behaviour of Celery that a reader would not expect."""
    blocks: bool = False
    """True if it occupies a worker that runs one job at a time for seconds: such rows are sent last."""
    without_agent: bool = False
    """True if a producer without the agent sends it."""
    traced: bool = True
    """True if an exception was raised in Python: without one a failed job has no stacktrace."""
    dated: bool = True
    """True if the time of the job's creation is known."""
    queue: str | None = ""
    """Suffix of its queue's name after the worker's queue: see `app`. None: it is in no queue."""
    named: bool = True
    """True if the message contains the task's name."""
    monitor_walks: Mapping[str, str | None] = field(default_factory=dict)
    duplicates: int = 0
    """Number of its events that may arrive a second time, under the same id."""


def matching_walk(walks: Mapping[str, str | None], pool: str, version: Version, broker: str = "") -> Walk | None:
    """Return the walk of the most specific key of `walks` that applies."""
    text = _text(walks, pool, version, broker)
    if text is None:
        return None
    steps = (step.partition("/") for step in text.split())
    return tuple((state, int(attempt or 1)) for state, _, attempt in steps)


def _text(walks: Mapping[str, str | None], pool: str, version: Version, broker: str) -> str | None:
    for scope in (f"{pool}@{broker}", pool, f"@{broker}", ""):
        for key, text in walks.items():
            bound = re.fullmatch(rf"{re.escape(scope)}<(\d+)\.(\d+)", key)
            if bound and version < (int(bound[1]), int(bound[2])):
                return text
        if (scope or ALL) in walks:
            return walks[scope or ALL]
    raise KeyError(f"no walk for {pool} on {broker}")
