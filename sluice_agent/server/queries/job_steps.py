"""The steps of one job, of which no more are read than what is shown needs, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, select

from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.queries.stored_job import JobHead, steps_of
from sluice_agent.server.record.history import History
from sluice_agent.server.record.record import Walked
from sluice_agent.server.record.snapshot import Snapshot, walk_after
from sluice_agent.server.record.step import Step
from sluice_agent.server.record.summary import State, Summary, course_of, walk
from sluice_agent.server.store.schema import step, step_part
from sluice_agent.server.store.steps import KEY_BYTES, decode_step, split_keys

MOST_STATES = 1_000
"""States that are shown at a time."""

PARTS = 6
"""Parts that are read at a time, of which the last one may have few steps: what `MOST_STATES` need."""


class Window(NamedTuple):
    """Some states of a job, of `total`: `earlier` ones come before them. `runs` are the histories at the end of the
    runs to which the events of these states belong, the last one as it was then."""

    states: Sequence[State]
    earlier: int
    total: int
    runs: Sequence[History]


class JobSteps:
    """The steps of a job, as `reader` sees them; so many parts at a time."""

    def __init__(self, reader: Connection, head: JobHead, parts: int = PARTS) -> None:
        self._at_once = parts
        self._reader = reader
        self._head = head
        self._parts = [] if head.fold is None else self._parts_where(step_part.c.start >= 0)

    @cached_property
    def _last(self) -> list[Step]:
        """The steps of the last parts; all steps, if there are no parts."""
        if self._parts:
            return self._in_parts(self._parts)
        return sorted(steps_of(self._reader, self._head), key=lambda step: step.order)

    @property
    def total(self) -> int:
        """The number of steps."""
        if not self._parts:
            return len(self._last)
        last = self._parts[-1]
        return int(last.start) + len(last.keys) // KEY_BYTES

    @cached_property
    def walked(self) -> Walked:
        """The walk through the last steps."""
        fold, first = self._head.fold, self._parts[0] if self._parts else None
        if fold is None or first is None or not first.snapshot:
            return walk(self._last)
        return walk_after(Snapshot.from_bytes(first.snapshot), self._last, Summary.from_bytes(fold))

    def window(self, before: int | None = None) -> Window:
        """Return the last states, or the last of the first `before` ones."""
        walked = self.walked
        total = walked.earlier + len(walked.states)
        earlier, states, runs = walked.earlier, walked.states, [*walked.past, walked.summary.history]
        end = total if before is None else min(before, total)
        if earlier and end < total:
            earlier, states, runs = self._earlier(end)
        states = states[: end - earlier]
        cut = max(0, len(states) - MOST_STATES)
        return Window(states[cut:], earlier + cut, total, runs)

    def numbered(self, start: int, stop: int) -> list[tuple[int, Step]]:
        """Return the steps from one to before another in the order of the history, with their numbers, from 1."""
        if not self._parts:
            return list(enumerate(self._last[start:stop], start + 1))
        parts = self._parts
        if start < parts[0].start:
            parts = self._parts_where(step_part.c.start < stop)
        steps = self._last if parts is self._parts else self._in_parts(parts)
        first = int(parts[0].start)
        numbered = enumerate(steps[max(0, start - first) : stop - first], max(start, first) + 1)
        return list(numbered)

    def _earlier(self, end: int) -> tuple[int, Sequence[State], list[History]]:
        """Return states of which the one with the number `end` is one of the last: the number of those before them,
        they themselves, and their runs."""
        first = self.walked.first
        parts = self._parts_where(step_part.c.states < max(1, end - len(first)))
        if not parts[0].snapshot:
            course = course_of(self._in_parts(parts))
            return 0, [*first, *course.states], [*course.past, course.history]
        snapshot = Snapshot.from_bytes(parts[0].snapshot)
        course = course_of(self._in_parts(parts), snapshot.history)
        return len(first) + snapshot.states, course.states, [*course.past, course.history]

    def _parts_where(self, condition: Any) -> list[Row[Any]]:
        """Return the last parts that fulfil a condition."""
        statement = select(step_part).where(step_part.c.job == self._head.number, condition)
        rows = self._reader.execute(statement.order_by(step_part.c.start.desc()).limit(self._at_once)).all()
        return list(reversed(rows))

    def _in_parts(self, parts: Sequence[Row[Any]]) -> list[Step]:
        """Return the steps of `parts`, in their order."""
        head, steps = self._head, list[Step]()
        for part in parts:
            keys = split_keys(part.keys)
            found = self._reader.execute(_STEPS, {"job": head.number, "keys": keys}).all()
            texts = texts_of(self._reader, (row.name for row in found))
            rows = {row.key: row for row in found}
            steps += (
                decode_step(rows[key].body, head.connection_id, head.external_id, texts[rows[key].name]) for key in keys
            )
        return steps


_STEPS = select(step.c.key, step.c.name, step.c.body).where(
    step.c.job == bindparam("job"), step.c.key.in_(bindparam("keys", expanding=True))
)
