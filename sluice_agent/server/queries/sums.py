"""Sums of the counts of a window: from days where they are whole, from hours, and from minutes at its edges."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, ColumnElement, Connection, and_, cast, func, select, true

from sluice_agent.server.queries.window import Part, Window
from sluice_agent.server.record.measures import Measure
from sluice_agent.server.store.schema import ALL_NAMES, DAY, HOUR, MINUTE, rollup, rollup_change

_KEPT = 100_000  # counts of all sums together: about 20 MB

Sums: TypeAlias = dict[tuple[Any, ...], int]


class PastSums:
    """The sums of hours that are over, by what was summed, with the number of changes of these hours: they hold until
    it is another. Any thread may use it.
    """

    def __init__(self) -> None:
        self._sums: dict[Hashable, tuple[int, Sums]] = {}  # in the order of their last use
        self._lock = Lock()

    def find(self, key: Hashable, changes: int) -> Sums | None:
        """Return the sums, which the caller must not change; None if they are not known after so many `changes`."""
        with self._lock:
            known = self._sums.pop(key, None)
            if known is None or known[0] != changes:
                return None
            self._sums[key] = known
            return known[1]

    def keep(self, key: Hashable, changes: int, sums: Sums) -> None:
        """Keep sums, and discard those that were not used for the longest time, if they are too many."""
        with self._lock:
            self._sums[key] = changes, sums
            surplus = sum(len(kept) for _, kept in self._sums.values()) - _KEPT
            while surplus > 0:
                _, discarded = self._sums.pop(next(iter(self._sums)))
                surplus -= len(discarded)


@dataclass(frozen=True, slots=True)
class Summed:
    """What is summed: the counts of some measures, by columns of `rollup`; of each task, or for each queue of all its
    tasks. `longest` is the length of the longest rollups that may be taken. `names` and `queue` are the labels of the
    only tasks, and of the only queue, that are summed; None: all."""

    measures: tuple[Measure, ...]
    columns: tuple[ColumnElement[Any], ...]
    of_queues: bool = False
    longest: int = DAY
    names: tuple[int, ...] | None = None
    queue: int | None = None

    @property
    def key(self) -> Hashable:
        """What differs between two of the same window."""
        return self.measures, tuple(map(str, self.columns)), self.of_queues, self.longest, self.names, self.queue

    def condition(self, part: Part) -> ColumnElement[bool]:
        """Return the condition of the rows of a part of a window."""
        length, starts = part
        has_all_names = self.of_queues and length != MINUTE
        if has_all_names:
            is_named = rollup.c.name == ALL_NAMES
        else:
            is_named = rollup.c.name != ALL_NAMES if self.names is None else rollup.c.name.in_(self.names)
        is_looked_up = has_all_names or self.names is not None  # each interval, rather than all between the two ends
        in_part = rollup.c.start.in_(starts) if is_looked_up else rollup.c.start.between(starts[0], starts[-1])
        is_measured = rollup.c.measure.in_(self.measures)
        return and_(rollup.c.minutes == length, in_part, is_named, self._has_queue(), is_measured)

    def _has_queue(self) -> ColumnElement[bool]:
        if self.queue is not None:
            return rollup.c.queue == self.queue
        return rollup.c.queue != 0 if self.of_queues else true()


def sums_of(
    reader: Connection, connections: Collection[int], window: Window, summed: Summed, past_sums: PastSums
) -> Sums:
    """Return the counts in `window` by the values of the columns."""
    past, present = window.past_and_present(summed.longest)
    key = window.start, window.width, tuple(connections), tuple(past), summed.key
    changes = _changes(reader, connections, past)
    sums = past_sums.find(key, changes)
    if sums is None:
        sums = {}
        _add(sums, reader, connections, past, summed)
        past_sums.keep(key, changes, sums)
    sums = sums.copy()
    _add(sums, reader, connections, present, summed)
    return {values: count for values, count in sums.items() if count > 0}


def _changes(reader: Connection, connections: Collection[int], parts: Sequence[Part]) -> int:
    """Return how often the counts of `parts`, which are of hours that are over, have changed."""
    if not parts:
        return 0
    first, (length, last) = parts[0][1][0], parts[-1]
    statement = select(func.coalesce(cast(func.sum(rollup_change.c.changes), BigInteger), 0)).where(
        rollup_change.c.connection.in_(connections),
        rollup_change.c.start >= first // HOUR * HOUR,
        rollup_change.c.start < last[-1] + length,
    )
    return reader.scalar(statement) or 0


def _add(sums: Sums, reader: Connection, connections: Collection[int], parts: Sequence[Part], summed: Summed) -> None:
    total = cast(func.sum(rollup.c.count), BigInteger)
    for part in parts:
        statement = select(*summed.columns, total).where(rollup.c.connection.in_(connections), summed.condition(part))
        for row in reader.execute(statement.group_by(*summed.columns)).all():
            key = tuple(row[:-1])
            sums[key] = sums.get(key, 0) + row[-1]
