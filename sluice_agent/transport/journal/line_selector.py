"""Selection of the journal's lines for a destination: those addressed to it or to all, and of these the filtered ones.

A job filter is data, kept in the destination's cursor: so every process that counts the pending events counts the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sluice_agent.globs import matcher
from sluice_agent.transport.journal.directory import SegmentName
from sluice_agent.transport.journal.line import EVENTS, address_prefix, may_be_job_change


@dataclass(frozen=True, slots=True)
class JobFilter:
    """A filter that selects job changes to one of `states` whose task matches one of the globs in `tasks`."""

    states: tuple[str, ...]
    tasks: tuple[str, ...]

    def wants(self, line: bytes) -> bool:
        """Return whether the event in `line` is selected. Only a line that may match is parsed."""
        if not may_be_job_change(line, self.states):
            return False
        try:
            job = json.loads(line)["job"]
            return job["state"] in self.states and matcher(self.tasks)(job["name"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return False

    def to_dict(self) -> dict[str, Any]:
        """Return the filter as it is kept in a cursor's file."""
        return {"states": list(self.states), "tasks": list(self.tasks)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> JobFilter:
        """Return the filter in `values`. Raises TypeError or KeyError where that is not one."""
        return cls(tuple(map(str, values["states"])), tuple(map(str, values["tasks"])))


@dataclass(frozen=True, slots=True)
class Selector:
    """The lines that a destination takes. Without a `job_filter`: all that are not addressed to another one."""

    destination: str = ""
    job_filter: JobFilter | None = None
    only_lane: str | None = None

    @property
    def lane(self) -> str | None:
        """The only lane that it reads; None: all. A job filter selects no heartbeat and no queue snapshot."""
        return self.only_lane or (None if self.job_filter is None else EVENTS)

    def in_lane(self, lane: str) -> Selector:
        """Return the same selector for `lane` only."""
        return replace(self, only_lane=lane)

    def reads(self, name: str) -> bool:
        """Return whether the segment `name` is in a lane that it reads."""
        return self.lane is None or SegmentName.parse(name).lane == self.lane

    def wants(self, line: bytes) -> bool:
        """Return whether it selects the event in `line`."""
        return self.job_filter is None or self.job_filter.wants(line)

    def prefix_length(self, lines: list[bytes], max_events: int) -> int:
        """Return the number of `lines` to take for at most `max_events` events."""
        if self.job_filter is None or max_events >= len(lines):
            return max_events
        for position, line in enumerate(lines):
            if not max_events:
                return position
            max_events -= line.startswith(self.prefix) or self.job_filter.wants(line)
        return len(lines)

    @property
    def prefix(self) -> bytes:
        """The first bytes of a line whose event is for this destination only."""
        return address_prefix(self.destination)


ALL = Selector()
