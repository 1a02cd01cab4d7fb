"""What a row of the table is."""

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


class Told:
    """What is told of a row's job, by pool, broker and Celery version."""

    __slots__ = ()

    walks: Mapping[str, str | None]
    """What agents tell."""
    watched: Mapping[str, str | None]
    """What a monitor tells that has the broker's events alone, where that is not what agents tell; "": nothing."""

    def walk(self, pool: str, version: Version, broker: str = "") -> Walk | None:
        """The expected walk in `pool` under a Celery of `version`; None where that can't happen."""
        return walk_among(self.walks, pool, version, broker)

    def watched_walk(self, pool: str, version: Version, broker: str = "") -> Walk | None:
        """The walk that a monitor tells, which has the broker's events alone."""
        walk = self.walk(pool, version, broker)
        try:
            return walk if walk is None else walk_among(self.watched, pool, version, broker)
        except KeyError:
            return walk


@dataclass(frozen=True, slots=True)
class Outcome(Told):
    """One way in which a job ends.

    `send` runs in a producer process that has the agent; it returns the job's id. `walks` says what is told, by pool,
    broker and Celery version: ``"queued active retrying active/2 completed/2"``, where ``/2`` is the attempt. The most
    specific key wins: ``"prefork@redis<5.7"``, ``"prefork@redis"``, ``"prefork<5.7"``, ``"prefork"``, ``"@redis"``,
    ``"<5.7"``, ``"*"``. None stands for what can't happen, or would tell nothing of a job.
    """

    name: str
    what: str
    send: Callable[[], str]
    walks: Mapping[str, str | None]
    error: str | None = None
    """A pattern that the error matches, in the walks that end with `failed`."""
    stacktrace: str | None = None
    """A pattern that is found in the last stacktrace."""
    extensions: Mapping[str, Any] = field(default_factory=dict)
    """What the last event's extensions hold at the least; ``...`` stands for any value."""
    of_state: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The same of the last event that tells this state, in the walks that have it."""
    job: Mapping[str, Any] = field(default_factory=dict)
    """What the last event's job holds at the least."""
    note: str = ""
    """What Celery does that a reader would not expect."""
    blocks: bool = False
    """Holds a worker that runs one job at a time for seconds: sent after all that need an answer soon."""
    bare: bool = False
    """Sent by a producer that does not have the agent."""
    traced: bool = True
    """Whether anything was raised in Python: without it a failed job has no stacktrace."""
    dated: bool = True
    """Whether anybody knows when the job was created."""
    queue: str | None = ""
    """How its queue's name goes on after the worker's own: see `app`. None: it is in no queue."""
    named: bool = True
    """Whether the message says what is to run."""
    watched: Mapping[str, str | None] = field(default_factory=dict)
    duplicates: int = 0
    """How many of its events may arrive a second time, under the same id."""


def walk_among(walks: Mapping[str, str | None], pool: str, version: Version, broker: str = "") -> Walk | None:
    """The walk that the most specific key of `walks` names."""
    text = _text(walks, pool, version, broker)
    if text is None:
        return None
    steps = (step.partition("/") for step in text.split())
    return tuple((state, int(attempt or 1)) for state, _, attempt in steps)


def _text(walks: Mapping[str, str | None], pool: str, version: Version, broker: str) -> str | None:
    for place in (f"{pool}@{broker}", pool, f"@{broker}", ""):
        for key, text in walks.items():
            found = re.fullmatch(rf"{re.escape(place)}<(\d+)\.(\d+)", key)
            if found and version < (int(found[1]), int(found[2])):
                return text
        if (place or ALL) in walks:
            return walks[place or ALL]
    raise KeyError(f"no walk for {pool} on {broker}")
