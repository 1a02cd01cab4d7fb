"""How the keys of a page are found, so that the work does not grow with the number of jobs.

Where few jobs are selected, all are read and sorted. Elsewhere ranges of indexes are read in the order of the list, as
far as the page needs: those of each connection and state by the sorted value, or those of one text after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    text,
    tuple_,
)

from sluice_agent.server.queries.base import (
    MOST,
    Ranges,
    Total,
    all_of,
    bases_of,
    ranges_of_connections,
    ranges_of_pairs,
    ranges_of_states,
    total_of,
)
from sluice_agent.server.queries.conditions import Condition, unindexed
from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.queries.order import Order, SortKey
from sluice_agent.server.queries.selection import Dimension, Selection
from sluice_agent.server.queries.sorting import SortBy
from sluice_agent.server.store.codes import JOB_STATES
from sluice_agent.server.store.schema import APART, NEAR, job, label

_IS_APART = and_(text(f"({APART})"))  # as it is: an index of these jobs only serves no other condition
_TIMES = (job.c.changed_at, job.c.started_at, job.c.completed_at)


_TEXTS = 64  # that are looked for at a time
_PAIRS = 16  # of a connection and a value, of which each is read for itself
_LAST = bindparam("last", type_=BigInteger())


@dataclass(frozen=True, slots=True)
class Limits:
    """Up to which sizes a way is taken."""

    read_all: int = 2_000
    """Jobs that are all read and sorted."""
    sorted: int = 10_000
    """Jobs that are read and sorted by the database."""
    counted: int = 20_000
    """Jobs that are counted by their texts, where one index has all that this needs."""
    merged: int = 48
    """Ranges that are merged."""


class Found(NamedTuple):
    """The keys of a page, one more than its limit if another page follows, and the total."""

    keys: list[SortKey]
    total: Total


class _Text(NamedTuple):
    """A text by which jobs are sorted, and its number in the column; of jobs without a text both are None."""

    text: str | None
    number: int | None


def find_keys(
    reader: Connection,
    selection: Selection,
    order: Order,
    after: SortKey | None,
    limit: int,
    limits: Limits = Limits(),
) -> Found:
    """Return the keys of at most `limit` selected jobs after a sort key (None: from the first), and of one more."""
    if not selection.states:
        return Found([], Total(0, is_exact=True))
    return _Plan(reader, selection, order, after, limit + 1, limits).find()


class _Plan:
    def __init__(
        self, reader: Connection, selection: Selection, order: Order, after: SortKey | None, needed: int, limits: Limits
    ) -> None:
        self._reader = reader
        self._selection = selection
        self._order = order
        self._after = after
        self._needed = needed
        self._limits = limits
        self._states, self._base = bases_of(reader, selection)

    def find(self) -> Found:
        """Choose the way to the keys that reads least."""
        if self._base.size <= self._limits.read_all:
            return self._all()
        counts = self._counts_of_texts() if self._can_count_texts() else None
        if counts is not None:
            return Found(self._by_counted_text(counts), Total(sum(counts.values()), is_exact=True))
        if self._order.by is SortBy.CREATED_AT:
            keys = self._by_creation()
        else:
            keys = self._by_text() if self._order.is_textual else self._by_value()
        return Found(keys, total_of(self._reader, self._selection, self._base))

    def _can_count_texts(self) -> bool:
        """Return whether the jobs of the base can be counted by text: that finds the few texts that few of many jobs
        have. States are few, and each is read at once; of more than half of all jobs, most texts have many."""
        is_of_most = not self._selection.filters_states or 2 * self._base.size > self._selection.jobs_in_connections
        if self._order.kind is None or (self._base is self._states and is_of_most):
            return False
        if any(
            dimension.column is self._order.column and not dimension.jobs for dimension in self._selection.dimensions
        ):
            return False  # the texts are known
        is_lacking = self._base.lacking or self._order.column.name not in self._base.columns
        return self._base.size <= (self._limits.sorted if is_lacking else self._limits.counted)

    def _all(self) -> Found:
        """Read all jobs of the base, and sort them."""
        columns = self._order.column.label("value"), job.c.created_at, job.c.number
        rows = list(self._rows(self._base.ranges, select(*columns).where(*self._base.residual)))
        if self._order.is_textual:
            texts = self._texts({value for value, _, _ in rows})
            keys = [SortKey(texts.get(value), created_at, number) for value, created_at, number in rows]
        else:
            keys = [SortKey._make(row) for row in rows]
        return Found(self._order.sorted(keys, self._after)[: self._needed], Total(len(rows), is_exact=True))

    def _by_creation(self) -> list[SortKey]:
        """Read the ranges of the smallest base, if they are sorted and not too many, or hold few jobs; else those of
        the states."""
        base, ranges = self._base, self._base.sorted_ranges
        if not ranges and base.size <= self._limits.sorted:
            ranges = base.ranges
        if not 0 < _number_of(ranges) <= self._limits.merged:
            base, ranges = self._states, self._states.sorted_ranges
        rows = self._merged(ranges, base.residual, self._after and self._after[1:])
        return [SortKey(created_at, created_at, number) for created_at, number in rows]

    def _by_value(self) -> list[SortKey]:
        """Read the ranges of an index of the value; then the jobs without a value."""
        column, after = self._order.column, self._after
        keys: list[SortKey] = []
        if after is None or after.value is not None:
            known = [column.is_not(None)] if column.nullable else []
            sort_key = after and (after.value, after.number)
            if self._base.size <= self._limits.sorted:
                rows = self._merged(self._base.ranges, [*self._base.residual, *known], sort_key, unindexed(column))
            else:
                rows = self._near_and_apart(known, sort_key)
            keys = [SortKey(value, 0, number) for value, number in rows]
            after = None
        return self._with_unknown(keys, after)

    def _near_and_apart(self, known: Sequence[Condition], after: tuple[Any, int] | None) -> list[tuple[int, int]]:
        """Read the ranges of an index of the value. If the creation is filtered, a time is in or soon after its range;
        the few jobs of which that is not so are read from an index of their own."""
        selection, column = self._selection, self._order.column
        begin, end = selection.created_from, selection.created_to
        near: list[Condition] = []
        outside: list[Condition] = []
        if column in _TIMES and begin is not None:
            near.append(column >= begin)
            outside.append(unindexed(column) < begin)
        if column in _TIMES and end is not None:
            near.append(column < end + NEAR)
            outside.append(unindexed(column) >= end + NEAR)
        residual = [*self._states.residual, *selection.created(indexed=False)]
        rows = self._merged([ranges_of_states(selection, *known, *near)], residual, after, column)
        if not outside:
            return rows
        created = tuple(selection.created(indexed=True))
        apart = ranges_of_connections(selection, _IS_APART, *created)
        residual = [*self._states.residual, *selection.in_states(), or_(*outside)]
        rows += self._merged([apart], residual, after, unindexed(column))
        return sorted(rows, reverse=self._order.is_descending)[: self._needed]

    def _with_unknown(self, keys: list[SortKey], after: SortKey | None) -> list[SortKey]:
        """Return `keys`, and as far as they do not suffice jobs without a value, after a sort key among those."""
        needed = self._needed - len(keys)
        if not needed or not self._order.column.nullable:
            return keys
        residual = [*self._states.residual, unindexed(self._order.column).is_(None)]
        rows = self._merged(self._states.ranges, residual, after and after[1:], needed=needed)
        return [*keys, *(SortKey(None, *row) for row in rows)]

    def _by_text(self) -> list[SortKey]:
        """Read the ranges of one text after the other; then the jobs without a text."""
        after, keys = self._after, list[SortKey]()
        if after is None or after.value is not None:
            column, other = self._order.column, self._paired()
            dimensions = [dimension for dimension in self._selection.dimensions if dimension.column is not column]
            residual = [dimension.residual() for dimension in dimensions if dimension is not other]
            residual += self._selection.created(indexed=True)
            residual += self._selection.in_states() if self._order.kind else ()
            texts = self._texts_in_order(residual if other is None else [other.column.in_(other.values), *residual])
            is_read_by_pairs = other is not None and len(other.values) * len(self._selection.states) <= _PAIRS
            if other is not None and not is_read_by_pairs:
                residual = [*residual, other.residual()]
            for text in texts:
                ranges = ranges_of_connections(self._selection, column == text.number)
                if other is not None and is_read_by_pairs:
                    ranges = ranges_of_pairs(self._selection, column == text.number, other)
                keys += self._of_text(text, [ranges], residual, self._needed - len(keys))
                if len(keys) == self._needed:
                    return keys
            after = None
        return self._with_unknown(keys, after)

    def _paired(self) -> Dimension | None:
        """Return the filter by queue of a list that is sorted by name, or by name of one that is sorted by queue: an
        index has both."""
        other = {SortBy.NAME: job.c.queue, SortBy.QUEUE: job.c.name}.get(self._order.by)
        return next(
            (dimension for dimension in self._selection.dimensions if dimension.column is other and not dimension.jobs),
            None,
        )

    def _texts_in_order(self, residual: Sequence[Condition]) -> Iterator[_Text]:
        """Yield the texts that selected jobs have, from that of the sort key on. The next ones are looked for when they
        are needed: a text that no selected job has may take thousands of others to see that."""
        if not self._order.kind:
            states = {code for states in self._selection.states.values() for code in states}
            yield from self._remaining(_Text(JOB_STATES[code].value, code) for code in states)
            return
        dimensions = self._selection.dimensions
        filters = (dimension.values for dimension in dimensions if dimension.column is self._order.column)
        conditions: list[Condition] = [label.c.kind == self._order.kind, *map(label.c.number.in_, filters)]
        shown, is_descending = label.c.text, self._order.is_descending
        direction = shown.desc() if is_descending else shown.asc()
        remaining = list[Condition]()
        if self._after is not None:
            remaining = [shown <= self._after.value if is_descending else shown >= self._after.value]
        most = 1
        while texts := self._occurring(
            select(shown, label.c.number).where(*conditions, *remaining).order_by(direction), residual, most
        ):
            yield from texts
            last, most = texts[-1].text, min(4 * most, _TEXTS)
            remaining = [shown < last if is_descending else shown > last]

    def _occurring(self, texts: Select[Any], residual: Sequence[Condition], most: int) -> list[_Text]:
        """Return the first of `texts` that selected jobs have. They are sorted before they are looked at: PostgreSQL,
        which has no index of their order, would look at all."""
        candidate = texts.subquery()
        occurs = (
            # not EXISTS: PostgreSQL would read all jobs of the connection once, in place of one of each text
            select(job.c.number)
            .where(job.c.connection == connection, self._order.column == candidate.c.number, *residual)
            .limit(1)
            .scalar_subquery()
            .is_not(None)
            for connection in self._selection.states
        )
        statement = select(candidate.c.text, candidate.c.number).where(or_(*occurs)).limit(most)
        direction = candidate.c.text.desc() if self._order.is_descending else candidate.c.text.asc()
        return [_Text(*row) for row in self._reader.execute(statement.order_by(direction))]

    def _counts_of_texts(self) -> Counter[int | None] | None:
        """Return the number of selected jobs by their text's number; None if there are too many jobs to count."""
        counts: Counter[int | None] = Counter()
        looked_at = 0
        matches = case((all_of(self._base.residual), 1)).label("matches")
        value = self._order.column.label("value")
        for ranges in self._base.ranges:
            inner = select(value, matches).where(*ranges.conditions).limit(MOST).subquery()
            counted = select(inner.c.value, func.count(), func.count(inner.c.matches)).group_by(inner.c.value)
            for parameters in ranges.parameters:
                most = self._limits.counted - looked_at
                for number, every, matching in self._reader.execute(counted, {**parameters, "most": most}):
                    counts[number] += matching
                    looked_at += every
                if looked_at >= self._limits.counted:
                    return None
        return +counts

    def _by_counted_text(self, counts: Counter[int | None]) -> list[SortKey]:
        """Read the rest of the sort key's text, then the texts that the page holds whole, then a part of the next."""
        texts = self._texts(counts)
        remaining = self._remaining(_Text(None if number is None else texts[number], number) for number in counts)
        keys: list[SortKey] = []
        if remaining and self._after is not None and remaining[0].text == self._after.value:
            keys += self._of_counted_text(remaining.pop(0), self._needed)
        whole: list[_Text] = []
        room = self._needed - len(keys)
        while remaining and counts[remaining[0].number] <= room:
            room -= counts[remaining[0].number]
            whole.append(remaining.pop(0))
        keys += self._of_texts(whole) if whole else ()
        keys += self._of_counted_text(remaining[0], room) if room and remaining else ()
        return keys

    def _of_counted_text(self, text: _Text, needed: int) -> list[SortKey]:
        base = self._base
        ranges = base.sorted_ranges if 0 < _number_of(base.sorted_ranges) <= self._limits.merged else base.ranges
        return self._of_text(text, ranges, [*base.residual, self._has_text(text.number)], needed)

    def _remaining(self, texts: Iterable[_Text]) -> list[_Text]:
        """Return `texts` in their order, the unknown one last, from that of the sort key on."""
        every = list(texts)
        unknown = [text for text in every if text.text is None]
        if self._after is not None and self._after.value is None:
            return unknown
        known = sorted((text.text, text.number) for text in every if text.text is not None)
        if self._order.is_descending:
            known.reverse()
        after = None if self._after is None else self._after.value
        ordered = [_Text(*pair) for pair in known if after is None or not self._is_before(pair[0], after)]
        return [*ordered, *unknown]

    def _is_before(self, text: Any, other: Any) -> bool:
        return bool(text > other if self._order.is_descending else text < other)

    def _texts(self, numbers: Iterable[int | None]) -> dict[int, str]:
        """Return the texts of the numbers in the sorted column."""
        if self._order.kind:
            return texts_of(self._reader, numbers)
        return {code: state.value for code, state in enumerate(JOB_STATES)}

    def _of_text(
        self, text: _Text, ranges: Iterable[Ranges], residual: Iterable[Condition], needed: int
    ) -> list[SortKey]:
        """Read the jobs of one text, after the sort key if it is among them."""
        after = self._after[1:] if self._after is not None and self._after.value == text.text else None
        return [SortKey(text.text, *row) for row in self._merged(ranges, residual, after, needed=needed)]

    def _of_texts(self, texts: Sequence[_Text]) -> list[SortKey]:
        """Read all jobs of several texts."""
        columns = self._order.column.label("value"), job.c.created_at, job.c.number
        by_number = {text.number: text.text for text in texts}
        conditions = [*self._base.residual, self._has_text(*by_number)]
        rows = self._rows(self._base.ranges, select(*columns).where(*conditions))
        keys = (SortKey(by_number[row.value], row.created_at, row.number) for row in rows)
        return self._order.sorted(keys, None)

    def _has_text(self, *numbers: int | None) -> Condition:
        """Return the residual condition that a job's text is one of those with these numbers."""
        column = unindexed(self._order.column)
        known = column.in_([number for number in numbers if number is not None])
        return or_(known, column.is_(None)) if None in numbers else known

    def _merged(
        self,
        every: Iterable[Ranges],
        residual: Iterable[Condition],
        after: tuple[Any, int] | None,
        column: ColumnElement[Any] = job.c.created_at,
        *,
        needed: int | None = None,
    ) -> list[tuple[int, int]]:
        """Return the first values of `column`, and numbers, of all ranges: each is part of an index sorted by the two,
        or short. Once there are enough, of each further range only what comes before the last of these is read."""
        needed = self._needed if needed is None else needed
        is_descending = self._order.is_descending
        position = tuple_(column, job.c.number)
        conditions = list(residual)
        if after is not None:
            conditions.append(position < after if is_descending else position > after)
        sorting = (column.desc(), job.c.number.desc()) if is_descending else (column, job.c.number)
        statement = select(column, job.c.number).where(*conditions).order_by(*sorting).limit(needed)
        within = column >= _LAST if is_descending else column <= _LAST
        rows: list[tuple[int, int]] = []
        for ranges in every:
            of_range = statement.where(*ranges.conditions)
            of_rest = of_range.where(within)
            for parameters in ranges.parameters:
                is_full = len(rows) == needed
                values = {**parameters, "last": rows[-1][0]} if is_full else parameters
                found = self._reader.execute(of_rest if is_full else of_range, values).all()
                if found:
                    rows = sorted([*rows, *((value, number) for value, number in found)], reverse=is_descending)[
                        :needed
                    ]
        return rows

    def _rows(self, every: Iterable[Ranges], statement: Select[Any]) -> Iterator[Row[Any]]:
        """Yield what `statement` selects in each range."""
        for ranges in every:
            of_range = statement.where(*ranges.conditions)
            for parameters in ranges.parameters:
                yield from self._reader.execute(of_range, parameters).all()


def _number_of(every: Iterable[Ranges]) -> int:
    return sum(len(ranges.parameters) for ranges in every)
