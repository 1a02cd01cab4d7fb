"""How the keys of a page are found, so that the work does not grow with the number of jobs.

Where few jobs are selected, all are read and sorted. Elsewhere ranges of indexes are read in the order of the list, as
far as the page needs: those of each connection and state by the sorted value, or those of one text after the other.
Where more than a few and not very many jobs are selected, these ranges are tried first: they hold the page near their
beginning, unless what is filtered and what is sorted depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    literal,
    or_,
    select,
    text,
    tuple_,
)

from sluice_agent.server.queries.base import (
    COLUMNS,
    COUNT_LIMIT,
    STATE_COLUMNS,
    Total,
    bases_of,
    ranges_of_connections,
    ranges_of_pairs,
    ranges_of_states,
    total_of,
)
from sluice_agent.server.queries.conditions import Condition, unindexed
from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.queries.order import Order, SortKey
from sluice_agent.server.queries.ranges import Part, Ranges
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
    covered: int = 25_000
    """The same, where one index has all that this needs."""
    merged: int = 48
    """Ranges that are merged."""
    tried: int = 20_000
    """Entries of a range that are looked at for a page that may be elsewhere in it."""
    texts_tried: int = 4
    """Texts whose ranges are tried."""


class Found(NamedTuple):
    """The keys of a page, one more than its limit if another page follows, and the total."""

    keys: list[SortKey]
    total: Total


class _TooFarError(Exception):
    """The page is not within the entries of the ranges that are tried."""


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
        is_counted = order.kind is not None or order.by is SortBy.DURATION_MS
        self._states, self._base = bases_of(
            reader, selection, max(COUNT_LIMIT, limits.covered) if is_counted else COUNT_LIMIT
        )

    def find(self) -> Found:
        """Choose the way to the keys that reads least."""
        if self._base.size <= self._limits.read_all:
            return self._all()
        keys: list[SortKey] | None = None
        if self._sorts_texts():
            if not self._is_covered and self._has_texts_apart:
                keys = self._tried_texts()
            keys = self._sorted_by_text() if keys is None else keys
        total = total_of(self._reader, self._selection, self._base)
        if keys is None and total.is_exact and total.jobs <= self._limits.read_all and not self._base.lacking:
            return self._all()
        return Found(self._in_order() if keys is None else keys, total)

    def _in_order(self) -> list[SortKey]:
        """Read ranges of indexes in the order of the list."""
        if self._order.by is SortBy.CREATED_AT:
            return self._by_creation()
        return self._by_text() if self._order.is_textual else self._by_value()

    @property
    def _is_covered(self) -> bool:
        """True if the index of the base has the sorted column, and all that is filtered."""
        return not self._base.lacking and self._order.column.name in self._base.columns

    @property
    def _is_of_a_range(self) -> bool:
        """True if the creation is filtered."""
        return self._selection.created_from is not None or self._selection.created_to is not None

    @property
    def _has_texts_apart(self) -> bool:
        """True if the index of the sorted text has all that is filtered."""
        return self._selection.residual_columns <= COLUMNS.get(self._order.column.name, frozenset())

    def _sorts_texts(self) -> bool:
        """Return whether to sort the jobs of the base by their texts: few of many jobs may have few of the texts.
        States are few, and each is read at once; of more than half of all jobs, most texts have many."""
        is_of_most = not self._selection.filters_states or 2 * self._base.size > self._selection.jobs_in_connections
        if self._order.kind is None or (self._base is self._states and is_of_most):
            return False
        are_known = any(
            dimension.column is self._order.column and not dimension.jobs for dimension in self._selection.dimensions
        )
        if are_known and self._has_texts_apart:
            return False
        return self._base.size <= (self._limits.covered if self._is_covered else self._limits.sorted)

    def _all(self) -> Found:
        """Read all jobs of the base, and sort them."""
        has_all = self._is_covered or (self._order.by is SortBy.CREATED_AT and not self._base.lacking)
        shown = job if has_all else job.alias()
        columns = shown.c[self._order.column.name].label("value"), shown.c.created_at, shown.c.number
        rows: list[Row[Any]] = []
        for ranges in self._base.ranges:
            conditions = *ranges.conditions, *self._base.residual
            for part in ranges.parts(self._reader):
                if has_all:
                    statement = part.select(select(*columns).where(*conditions))
                else:  # PostgreSQL would read the rows of all jobs of the base
                    numbers = part.select(select(job.c.number).where(*conditions))
                    statement = select(*columns).where(shown.c.number.in_(numbers))
                rows += self._reader.execute(statement, part.values).all()
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
            rows = self._values([column.is_not(None)] if column.nullable else [], after and (after.value, after.number))
            keys = [SortKey(value, 0, number) for value, number in rows]
            after = None
        return self._with_unknown(keys, after)

    def _values(self, known: Sequence[Condition], after: tuple[Any, int] | None) -> list[tuple[int, int]]:
        """Read the ranges of an index of the value. If few jobs are selected, those of the base are sorted if the page
        is not near the beginning of these; at once, if the index of the base has all that this needs."""
        if (runs := self._runs_of_tasks()) is not None:
            return self._merged([runs], [], after, self._order.column)
        most = self._limits.covered if self._is_covered else self._limits.sorted
        if self._base.size > most:
            return self._near_and_apart(known, after, None)
        if not self._is_covered and self._selection.residual_columns <= STATE_COLUMNS and not self._is_of_a_range:
            try:
                return self._near_and_apart(known, after, self._limits.tried)
            except _TooFarError:
                pass
        residual = [*self._base.residual, *known]
        return self._merged(self._base.ranges, residual, after, unindexed(self._order.column))

    def _runs_of_tasks(self) -> Ranges | None:
        """Return the ranges of each task by duration, if nothing but a few tasks is filtered, and the list is sorted by
        that; else None."""
        names = [dimension for dimension in self._selection.dimensions if dimension.column is job.c.name]
        is_of_names = self._selection.residual_columns == {"name"} and not self._is_of_a_range
        if self._order.by is not SortBy.DURATION_MS or not is_of_names or any(name.jobs for name in names):
            return None
        ranges = ranges_of_pairs(self._selection, job.c.duration_ms.is_not(None), names[0])
        return ranges if len(ranges.parameters) <= self._limits.merged else None

    def _near_and_apart(
        self, known: Sequence[Condition], after: tuple[Any, int] | None, tried: int | None
    ) -> list[tuple[int, int]]:
        """Read the ranges of an index of the value. If the creation is filtered, a time is in or soon after its range;
        the few jobs of which that is not so are read from an index of their own. Raises `_TooFarError` as `_merged`."""
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
        rows = self._merged([ranges_of_states(selection, *known, *near)], residual, after, column, tried=tried)
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

    def _tried_texts(self) -> list[SortKey] | None:
        """Return the page if it is near the beginnings of the ranges of the first texts; None if it is not."""
        after = self._after
        if after is not None and after.value is None:
            return None
        kind, shown = label.c.kind == self._order.kind, label.c.text
        direction = shown.desc() if self._order.is_descending else shown.asc()
        remaining = list[Condition]()
        if after is not None:
            remaining = [shown <= after.value if self._order.is_descending else shown >= after.value]
        every = select(shown, label.c.number).where(kind, *remaining).order_by(direction)
        texts = [_Text(*row) for row in self._reader.execute(every.limit(self._limits.texts_tried))]
        residual = [dimension.residual() for dimension in self._selection.dimensions]
        residual += self._selection.in_states()
        created = tuple(self._selection.created(indexed=True))
        keys: list[SortKey] = []
        try:
            for text in texts:
                ranges = ranges_of_connections(self._selection, self._order.column == text.number, *created)
                needed = self._needed - len(keys)
                keys += self._of_text(text, [ranges], residual, needed, tried=self._limits.tried)
                if len(keys) == self._needed:
                    return keys
        except _TooFarError:
            pass
        return None

    def _sorted_by_text(self) -> list[SortKey]:
        """Sort the jobs of the base by their texts; then read the jobs without a text."""
        after, keys = self._after, list[SortKey]()
        if after is None or after.value is not None:
            position = (label.c.text, job.c.created_at, job.c.number)
            conditions = list(self._base.residual)
            if after is not None:
                is_behind = tuple_(*position) < after if self._order.is_descending else tuple_(*position) > after
                conditions.append(is_behind)
            sorting = [column.desc() if self._order.is_descending else column.asc() for column in position]
            texts = job.join(label, label.c.number == unindexed(self._order.column))
            statement = select(*position).select_from(texts).where(*conditions).order_by(*sorting).limit(self._needed)
            rows = [SortKey._make(row) for row in self._rows(self._base.ranges, statement)]
            keys = sorted(rows, reverse=self._order.is_descending)[: self._needed]
            after = None
        return self._with_unknown(keys, after)

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
        self,
        text: _Text,
        ranges: Iterable[Ranges],
        residual: Iterable[Condition],
        needed: int,
        *,
        tried: int | None = None,
    ) -> list[SortKey]:
        """Read the jobs of one text, after the sort key if it is among them. Raises `_TooFarError` as `_merged`."""
        after = self._after[1:] if self._after is not None and self._after.value == text.text else None
        rows = self._merged(ranges, residual, after, needed=needed, tried=tried)
        return [SortKey(text.text, *row) for row in rows]

    def _merged(
        self,
        every: Iterable[Ranges],
        residual: Iterable[Condition],
        after: tuple[Any, int] | None,
        column: ColumnElement[Any] = job.c.created_at,
        *,
        needed: int | None = None,
        tried: int | None = None,
    ) -> list[tuple[int, int]]:
        """Return the first values of `column`, and numbers, of all ranges: each is part of an index sorted by the two,
        or short. Once there are enough, of each further range only what comes before the last of these is read.

        Raises `_TooFarError` if that needs a look at more than `tried` entries of a range; None: there is no bound.
        """
        needed = self._needed if needed is None else needed
        is_descending = self._order.is_descending
        position = tuple_(column, job.c.number)
        begin: list[Condition] = []
        if after is not None:
            begin.append(position < after if is_descending else position > after)
        sorting = (column.desc(), job.c.number.desc()) if is_descending else (column, job.c.number)
        within = column >= _LAST if is_descending else column <= _LAST
        rows: list[tuple[int, int]] = []
        for ranges in every:
            of_range = select(column.label("value"), job.c.number).order_by(*sorting)
            first = of_range.where(*ranges.conditions, *begin)
            rest = of_range.where(within, *ranges.conditions, *begin)  # SQLite takes the first of two limits
            for part in ranges.parts(self._reader, self._read_alone(ranges, tried)):
                entries, values = first, part.values
                if len(rows) == needed:
                    entries, values = rest, {**values, "last": rows[-1][0]}
                found = self._matching(part, entries, list(residual), values, needed, tried)
                if found:
                    rows = sorted([*rows, *((value, number) for value, number in found)], reverse=is_descending)[
                        :needed
                    ]
        return rows

    def _read_alone(self, ranges: Ranges, tried: int | None) -> int:
        """Return how many of `ranges` are read each for itself: the first, which bounds the others, and those
        in which more than `tried` entries may have to be looked at."""
        if tried is None:
            return 1
        return max(1, sum(self._selection.jobs_in(of_range) > tried for of_range in ranges.parameters))

    def _matching(
        self,
        part: Part,
        entries: Select[Any],
        residual: list[Condition],
        values: Mapping[str, Any],
        needed: int,
        tried: int | None,
    ) -> Sequence[Row[Any]]:
        """Return the first of `entries` of each range, which are sorted, that fulfil `residual`."""
        if tried is None:
            return self._reader.execute(part.select(entries.where(*residual).limit(needed)), values).all()
        matches: ColumnElement[int] = literal(1)
        for condition in reversed(residual):  # SQLite would evaluate all of them, and look at each row for one
            matches = case((condition, matches))
        looked_at = entries.add_columns(matches.label("matches")).limit(tried).subquery()
        first = select(looked_at.c.value, looked_at.c.number).where(looked_at.c.matches == 1).limit(needed)
        found = self._reader.execute(part.select(first), values).all()
        (of_range, *others) = part.ranges
        is_cut = not others and len(found) < needed and self._selection.jobs_in(of_range) > tried
        if is_cut and self._reader.execute(entries.offset(tried).limit(1), values).first() is not None:
            raise _TooFarError
        return found

    def _rows(self, every: Iterable[Ranges], statement: Select[Any]) -> Iterator[Row[Any]]:
        """Yield what `statement` selects in each range."""
        for ranges in every:
            of_range = statement.where(*ranges.conditions)
            for part in ranges.parts(self._reader):
                yield from self._reader.execute(part.select(of_range), part.values).all()


def _number_of(every: Iterable[Ranges]) -> int:
    return sum(len(ranges.parameters) for ranges in every)
