"""Who reads the journal: which of its lines are for a destination, and which of those the destination chooses.

A choice is data, kept in the destination's cursor, so that everyone who counts what waits counts what will be sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sluice_agent.globs import matcher
from sluice_agent.transport.directory import EVENTS

ADDRESS_PREFIX = b'{"for":"'
_JOB_PREFIX = b'{"type":"job_state_change"'


@dataclass(frozen=True, slots=True)
class JobFilter:
    """The changes of jobs to one of `states` whose task matches one of the globs in `tasks`; nothing else."""

    states: tuple[str, ...]
    tasks: tuple[str, ...]

    def wants(self, line: bytes) -> bool:
        """Whether the event in `line` is chosen. Only a line that may be is parsed."""
        if not line.startswith(_JOB_PREFIX) or not any(mark in line for mark in _marks(self.states)):
            return False
        try:
            job = json.loads(line)["job"]
            return job["state"] in self.states and matcher(self.tasks)(job["name"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return False

    def to_dict(self) -> dict[str, Any]:
        """The choice as it is kept in a cursor's file."""
        return {"states": list(self.states), "tasks": list(self.tasks)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> JobFilter:
        """The choice in `values`; raises TypeError or KeyError where there is none."""
        return cls(tuple(map(str, values["states"])), tuple(map(str, values["tasks"])))


@dataclass(frozen=True, slots=True)
class Selector:
    """One destination as the journal's reader. Without a `job_filter` it wants everything that is not for another."""

    destination: str = ""
    job_filter: JobFilter | None = None
    only_lane: str | None = None

    @property
    def lane(self) -> str | None:
        """The only lane that it reads; None: all. No choice takes a heartbeat or a queue snapshot."""
        return self.only_lane or (None if self.job_filter is None else EVENTS)

    def within(self, lane: str) -> Selector:
        """The same, as long as it reads nothing but `lane`."""
        return replace(self, only_lane=lane)

    def reads(self, name: str) -> bool:
        """Whether the journal's file `name` is in a lane that it reads."""
        return self.lane is None or f"-{self.lane}-" in name

    def wants(self, line: bytes) -> bool:
        """Whether it wants the event in `line`."""
        return self.job_filter is None or self.job_filter.wants(line)

    def prefix_length(self, lines: list[bytes], most: int) -> int:
        """How many of `lines` to take for `most` events at the most."""
        if self.job_filter is None or most >= len(lines):
            return most
        for position, line in enumerate(lines):
            if not most:
                return position
            most -= line.startswith(self.prefix) or self.job_filter.wants(line)
        return len(lines)

    @property
    def prefix(self) -> bytes:
        """How a line begins whose event is for this destination alone."""
        return ADDRESS_PREFIX + self.destination.encode() + b'","event":'

    def addressed(self, event: bytes) -> bytes:
        """The line that is `event` for this destination alone."""
        return self.prefix + event + b"}"


ALL = Selector()


@lru_cache(maxsize=8)
def _marks(states: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(f'"state":"{state}"'.encode() for state in states)
