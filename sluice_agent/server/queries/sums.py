"""Sums of the counts of a window: from days where they are whole, from hours, and from minutes at its edges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeAlias

from sqlalchemy import BigInteger, Column, ColumnElement, Connection, and_, cast, func, select, true

from sluice_agent.server.queries.conditions import is_one_of
from sluice_agent.server.queries.kept_counts import Counts, Interval, KeptCounts, Values
from sluice_agent.server.queries.window import Part, Window
from sluice_agent.server.record.measures import Measure
from sluice_agent.server.store.schema import ALL_NAMES, DAY, HOUR, MINUTE, rollup, rollup_change

_KEPT = 100_000  # counts of all sums together: about 20 MB
_DAYS_AT_ONCE, _HOURS_AT_ONCE = 2, 12  # that one statement reads: a day has up to 20,000 counts of 400 tasks

Sums: TypeAlias = dict[tuple[Any, ...], int]


class PastSums:
    """The sums of hours that are over, by what was summed, with the number of changes of these hours: they hold until
    it is another. `intervals` has the counts of the single hours and days. Any thread may use it.
    """

    def __init__(self) -> None:
        self._sums: dict[Hashable, tuple[int, Sums]] = {}  # in the order of their last use
        self._lock = Lock()
        self.intervals = KeptCounts()

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
    tasks. The key of a sum has the number of the connection before the columns, if `by_connection`, and the index of
    the interval of the window after them, if `by_interval`. `longest` is the length of the longest rollups that may be
    taken. `names` and `queue` are the labels of the only tasks, and of the only queue, that are summed; None: all."""

    measures: tuple[Measure, ...]
    columns: tuple[Column[Any], ...]
    by_connection: bool = False
    by_interval: bool = False
    of_queues: bool = False
    longest: int = DAY
    names: tuple[int, ...] | None = None
    queue: int | None = None

    @property
    def kind(self) -> Hashable:
        """What differs between two that count something else in the same hour."""
        return self.measures, tuple(column.name for column in self.columns), self.of_queues, self.names, self.queue

    @property
    def key(self) -> Hashable:
        """What differs between two of the same window."""
        return self.kind, self.by_connection, self.by_interval, self.longest

    @property
    def is_narrow(self) -> bool:
        """True if few rows of each hour are read."""
        return self.names is not None or self.queue is not None

    def condition(self, part: tuple[int, Sequence[int]]) -> ColumnElement[bool]:
        """Return the condition of the rows of a part of a window."""
        length, starts = part
        has_all_names = self.of_queues and length != MINUTE
        if has_all_names:
            is_named = rollup.c.name == ALL_NAMES
        else:
            is_named = rollup.c.name != ALL_NAMES if self.names is None else is_one_of(rollup.c.name, self.names)
        # each interval, rather than all between the two ends, if only a part of its rows is read
        is_looked_up = has_all_names or self.names is not None or not isinstance(starts, range)
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
    past, present = window.past_and_present(summed.longest, splits_today=not summed.is_narrow)
    key = window.start, window.width, tuple(connections), tuple(past), summed.key
    changes = _changes(reader, connections, past)
    sums = past_sums.find(key, changes)
    if sums is None:
        sums = {}
        are_kept = [part for part in past if part[0] != MINUTE and not summed.is_narrow]
        _add(sums, reader, connections, window, summed, [part for part in past if part not in are_kept])
        if are_kept:
            _add_kept(sums, reader, connections, window, summed, are_kept, past_sums.intervals)
        past_sums.keep(key, changes, sums)
    sums = sums.copy()
    _add(sums, reader, connections, window, summed, present)
    return {values: count for values, count in sums.items() if count > 0}


def _of_hours(connections: Collection[int], parts: Sequence[Part]) -> ColumnElement[bool]:
    """Return the condition of the rows of `rollup_change` of the hours of `parts`."""
    first, (length, last) = parts[0][1][0], parts[-1]
    return and_(
        rollup_change.c.connection.in_(connections),
        rollup_change.c.start >= first // HOUR * HOUR,
        rollup_change.c.start < last[-1] + length,
    )


def _changes(reader: Connection, connections: Collection[int], parts: Sequence[Part]) -> int:
    """Return how often the counts of `parts`, which are of hours that are over, have changed."""
    if not parts:
        return 0
    total = func.coalesce(cast(func.sum(rollup_change.c.changes), BigInteger), 0)
    return reader.scalar(select(total).where(_of_hours(connections, parts))) or 0


def _add(
    sums: Sums,
    reader: Connection,
    connections: Collection[int],
    window: Window,
    summed: Summed,
    parts: Sequence[Part],
) -> None:
    """Add the counts of `parts` as the database sums them."""
    total = cast(func.sum(rollup.c.count), BigInteger)
    before = (rollup.c.connection,) if summed.by_connection else ()
    after = (window.interval_of(rollup.c.start),) if summed.by_interval else ()
    columns = (*before, *summed.columns, *after)
    for part in parts:
        statement = select(*columns, total).where(rollup.c.connection.in_(connections), summed.condition(part))
        rows = reader.execute(statement.group_by(*columns)).all()
        _add_counts(sums, ((tuple(row[:-1]), row[-1]) for row in rows))


def _add_kept(
    sums: Sums,
    reader: Connection,
    connections: Collection[int],
    window: Window,
    summed: Summed,
    parts: Sequence[Part],
    kept: KeptCounts,
) -> None:
    """Add the counts of the hours and days of `parts`: those that are kept, and the others, which are kept then."""
    changes = dict.fromkeys(
        ((number, length, start) for number in connections for length, starts in parts for start in starts), 0
    )
    columns = rollup_change.c.connection, rollup_change.c.start, rollup_change.c.changes
    for number, start, count in reader.execute(select(*columns).where(_of_hours(connections, parts))).all():
        for interval in ((number, HOUR, start), (number, DAY, start // DAY * DAY)):
            if interval in changes:
                changes[interval] += count
    kind = kept.kind(summed.kind)
    known = {interval: counts for interval in changes if (counts := kind.find(interval, changes[interval])) is not None}
    for interval, read, values in _read(reader, summed, [interval for interval in changes if interval not in known]):
        known[interval] = kept.keep(kind, interval, changes[interval], read, values)
    groups: dict[tuple[int | None, int | None], list[Counts]] = {}
    for (number, _, start), counts in known.items():
        of_connection = number if summed.by_connection else None
        of_interval = window.interval_at(start) if summed.by_interval else None
        groups.setdefault((of_connection, of_interval), []).append(counts)
    for (of_connection, of_interval), of_group in groups.items():
        before = () if of_connection is None else (of_connection,)
        after = () if of_interval is None else (of_interval,)
        total = kind.total(of_group).items()
        _add_counts(sums, (((*before, *of_columns, *after), count) for of_columns, count in total))


def _add_counts(sums: Sums, counts: Iterable[tuple[Values, int]]) -> None:
    for values, count in counts:
        sums[values] = sums.get(values, 0) + count


def _read(
    reader: Connection, summed: Summed, intervals: Sequence[Interval]
) -> Iterator[tuple[Interval, Sequence[int], Sequence[Values]]]:
    """Yield each of `intervals` with its counts, and the values of the columns of each. The database would sort them in
    order to sum those of the same values."""
    starts: dict[tuple[int, int], list[int]] = {}
    for number, length, start in intervals:
        starts.setdefault((number, length), []).append(start)
    columns = rollup.c.start, rollup.c.count, *summed.columns
    for (number, length), of_length in starts.items():
        at_once = _DAYS_AT_ONCE if length == DAY else _HOURS_AT_ONCE
        for first in range(0, len(of_length), at_once):
            part = of_length[first : first + at_once]
            conditions = rollup.c.connection == number, summed.condition((length, part))
            rows = reader.execute(select(*columns).where(*conditions).order_by(rollup.c.start)).all()
            begins, counts, *others = zip(*rows, strict=True) if rows else ((), ())
            values = list(zip(*others, strict=True))
            for start in part:
                within = slice(bisect_left(begins, start), bisect_right(begins, start))
                yield (number, length, start), counts[within], values[within]
