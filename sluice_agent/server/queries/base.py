"""Ways to reach all jobs of a selection, and how many there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, case, func, select, true

from sluice_agent.server.queries.conditions import Condition
from sluice_agent.server.queries.ranges import MOST, OF_CONNECTION, Ranges
from sluice_agent.server.queries.selection import Alternatives, Dimension, Selection
from sluice_agent.server.store.schema import job

COUNT_LIMIT = 10_000
"""The largest number of jobs that is counted exactly, unless it is known without counting."""

_LOOKED_AT = 50_000  # entries of an index that are looked at to count those that fulfil the residual conditions
_ROWS_LOOKED_AT = 10_000  # the same where the index lacks a column, so that each job's row is read
_SHARE = 10  # a filter that selects more than are counted is taken for one that selects a tenth of all jobs

STATE_COLUMNS = frozenset({"state", "name", "queue", "worker"})
"""The columns that each index of a state and a value has."""

COLUMNS = {
    "name": frozenset({"name", "queue"}),
    "queue": frozenset({"name", "queue"}),
    "worker": frozenset({"name", "queue", "worker"}),
    "error_class": frozenset({"error_location"}),
    "error_location": frozenset({"error_class"}),
}
"""The columns that the index of a dimension has, as `schema` makes it."""


class Total(NamedTuple):
    """The number of selected jobs. If it is not exact, there are at least as many."""

    jobs: int
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Base:
    """A way to reach all selected jobs.

    `ranges` together hold each of them once; in `sorted_ranges`, which may be more, an index sorts each range by
    creation. `residual` are the conditions that remain, and `lacking` the columns of these that the index, which has
    `columns`, lacks. `size` is the number of jobs in the ranges, estimated if it is above what is counted.
    """

    ranges: Sequence[Ranges]
    sorted_ranges: Sequence[Ranges]
    residual: Sequence[Condition]
    size: int
    columns: frozenset[str]
    lacking: frozenset[str]


def bases_of(reader: Connection, selection: Selection, most: int = COUNT_LIMIT) -> tuple[Base, Base]:
    """Return the base of the states, in which a state's jobs are sorted by creation, and the smallest base. At most
    `most` jobs of each are counted."""
    states = _base_of_states(reader, selection, most)
    indexed = (dimension for dimension in selection.dimensions if dimension.is_indexed)
    smallest = min(
        (states, *(_base_of(reader, selection, dimension, most) for dimension in indexed)),
        key=lambda base: (base.size, len(base.lacking)),
    )
    return states, smallest


def ranges_of_states(selection: Selection, *conditions: Condition) -> Ranges:
    """Return the range of each connection and state, the largest first: it is read alone if it has enough."""
    sizes = [
        (jobs, connection, state) for connection, states in selection.states.items() for state, jobs in states.items()
    ]
    return Ranges(
        (OF_CONNECTION, job.c.state == bindparam("state"), *conditions),
        [{"connection": connection, "state": state} for _, connection, state in sorted(sizes, reverse=True)],
    )


def ranges_of_connections(selection: Selection, *conditions: Condition) -> Ranges:
    """Return the range of each connection."""
    return Ranges((OF_CONNECTION, *conditions), [{"connection": connection} for connection in selection.states])


def ranges_of_pairs(selection: Selection, condition: Condition, other: Dimension) -> Ranges:
    """Return the range of each connection and value of `other`, of the jobs that fulfil `condition`."""
    return Ranges(
        (OF_CONNECTION, condition, other.column == bindparam("value")),
        [{"connection": connection, "value": value} for connection in selection.states for value in other.values],
    )


def total_of(reader: Connection, selection: Selection, base: Base) -> Total:
    """Return the number of selected jobs: exact up to `COUNT_LIMIT`, further where no job need be looked at."""
    if selection.is_exactly_counted:
        return Total(selection.jobs_in_states, is_exact=True)
    if not base.residual:
        return Total(min(base.size, COUNT_LIMIT), is_exact=base.size <= COUNT_LIMIT)
    looked_at = matching = 0
    most = _ROWS_LOOKED_AT if base.lacking else _LOOKED_AT
    matches = case((all_of(base.residual), 1)).label("matches")
    for ranges in base.ranges:
        of_range = select(matches).where(*ranges.conditions).limit(MOST)
        for part in ranges.parts(reader):
            inner = part.select(of_range, MOST).subquery()
            statement = select(func.count(), func.count(inner.c.matches)).select_from(inner)
            seen, found = reader.execute(statement, {**part.values, "most": most - looked_at}).all()[0]
            looked_at += seen
            matching += found
            if looked_at >= most or matching > COUNT_LIMIT:
                return Total(min(matching, COUNT_LIMIT), is_exact=False)
    return Total(matching, is_exact=True)


def all_of(conditions: Iterable[Condition]) -> Condition:
    """Return the condition that all `conditions` are fulfilled."""
    return and_(true(), *conditions)


def _base_of_states(reader: Connection, selection: Selection, most: int) -> Base:
    ranges = [ranges_of_states(selection, *selection.created(indexed=True))]
    size = selection.jobs_in_states
    if selection.created_from is not None or selection.created_to is not None:
        size = _count(reader, selection, ranges, most)
    residual = [dimension.residual() for dimension in selection.dimensions]
    return Base(ranges, ranges, residual, size, STATE_COLUMNS, selection.residual_columns - STATE_COLUMNS)


def _base_of(reader: Connection, selection: Selection, dimension: Dimension, most: int) -> Base:
    ranges = _ranges_of(selection, dimension.all_alternatives())
    sorted_ranges = _ranges_of(selection, dimension.alternatives())
    others = [other.residual() for other in selection.dimensions if other is not dimension]
    residual = [*others, *selection.in_states()]
    columns = COLUMNS.get(dimension.column.name, frozenset())
    lacking = selection.residual_columns - columns - {dimension.column.name}
    return Base(ranges, sorted_ranges, residual, _count(reader, selection, ranges, most), columns, lacking)


def _ranges_of(selection: Selection, every: Iterable[Alternatives]) -> list[Ranges]:
    return [
        Ranges(
            (OF_CONNECTION, alternatives.condition, *selection.created(indexed=True)),
            [
                {"connection": connection, "value": value}
                for connection in selection.states
                for value in alternatives.values
            ],
        )
        for alternatives in every
    ]


def _count(reader: Connection, selection: Selection, every: Iterable[Ranges], most: int) -> int:
    """Return the number of jobs in ranges, estimated if they are more than `most`."""
    count = 0
    for ranges in every:
        of_range = select(job.c.number).where(*ranges.conditions).limit(MOST)
        for part in ranges.parts(reader):
            statement = select(func.count()).select_from(part.select(of_range, MOST).subquery())
            count += reader.scalar(statement, {**part.values, "most": most + 1 - count}) or 0
            if count > most:
                return max(count, selection.jobs_in_connections // _SHARE)
    return count
