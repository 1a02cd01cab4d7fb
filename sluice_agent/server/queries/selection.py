"""Which jobs a request is about: the filter of a list in the numbers of the database.

A filter that indexes serve is a `Dimension`. Each of its alternatives begins an index; elsewhere the dimension is a
residual condition, written so that no planner takes an index for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, and_, bindparam, false, or_, select, text

from sluice_agent.model import JobState
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.queries.conditions import Condition, is_one_of, unindexed
from sluice_agent.server.queries.job_filter import InvalidFilterError, JobFilter
from sluice_agent.server.queries.job_problem import JobProblem
from sluice_agent.server.queries.labels import find_labels, find_names
from sluice_agent.server.queries.problems import LATE_AFTER, STATES, running_with
from sluice_agent.server.record.ids import job_uuid, job_uuids
from sluice_agent.server.store.codes import FRAMEWORKS, JOB_STATES
from sluice_agent.server.store.schema import HELD, QUEUED_UNTIL, LabelKind, connection, job, tally


class Alternatives(NamedTuple):
    """A condition for each of some values of its parameter ``value``; without such a parameter, one condition."""

    condition: Condition
    values: Sequence[Any] = (None,)


@dataclass(frozen=True, slots=True)
class Dimension:
    """A filter by a column: the values that match, and the numbers of jobs that match whatever their value; or, in
    place of both, `conditions`: one that begins an index, if the dimension has one, and the same one without any."""

    column: Column[Any]
    values: Sequence[Any] = ()
    jobs: Sequence[int] = ()
    is_indexed: bool = True
    conditions: tuple[Condition, Condition] | None = None

    def alternatives(self) -> Iterator[Alternatives]:
        """Yield the conditions of which a job fulfils one. Each begins an index, if the dimension has one, that sorts
        the jobs by creation: so there is none for `conditions`."""
        if self.values:
            condition = self.column == bindparam("value")
            of_framework = self.column is job.c.framework
            yield Alternatives(and_(condition, text("framework <> 0")) if of_framework else condition, self.values)
        if self.jobs:
            yield Alternatives(job.c.number == bindparam("value"), self.jobs)

    def all_alternatives(self) -> Iterator[Alternatives]:
        """Yield the same conditions, those of the values in one: no order of an index serves it."""
        if self.conditions is not None:
            yield Alternatives(self.conditions[0])
        elif len(self.values) > 1 and self.column is not job.c.framework:
            yield Alternatives(self._has_value(self.column))
            if self.jobs:
                yield Alternatives(job.c.number == bindparam("value"), self.jobs)
        else:
            yield from self.alternatives()

    def residual(self) -> Condition:
        """Return the condition without any index."""
        if self.conditions is not None:
            return self.conditions[1]
        conditions: list[Condition] = []
        if self.values:
            conditions.append(self._has_value(unindexed(self.column)))
        if self.jobs:
            conditions.append(unindexed(job.c.number).in_(self.jobs))
        return or_(*conditions) if conditions else false()

    def _has_value(self, column: ColumnElement[Any]) -> Condition:
        """Return the condition that `column` has one of the values."""
        return is_one_of(column, self.values) if isinstance(self.values[0], int) else column.in_(self.values)


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter in the numbers of the database.

    `states` has, for each connection, the numbers of jobs in each state that is asked for and occurs. `filters_states`
    is False if these are all states. `jobs_in_connections` counts jobs in any state.
    """

    states: Mapping[int, Mapping[int, int]]
    filters_states: bool
    jobs_in_connections: int
    dimensions: Sequence[Dimension]
    created_from: int | None
    created_to: int | None

    @property
    def jobs_in_states(self) -> int:
        """The number of jobs of the connections in the states that are asked for."""
        return sum(sum(states.values()) for states in self.states.values())

    def jobs_in(self, of_range: Mapping[str, Any]) -> int:
        """Return the number of jobs in the connection, and in the state, that the parameters of a range name."""
        states = self.states[of_range["connection"]]
        return states[of_range["state"]] if "state" in of_range else self.jobs_in_connections

    @property
    def is_exactly_counted(self) -> bool:
        """True if nothing but connections and states is filtered."""
        return not self.dimensions and self.created_from is None and self.created_to is None

    @property
    def residual_columns(self) -> frozenset[str]:
        """The names of the columns that are filtered, but that of the creation, which is in each index."""
        states = {"state"} if self.filters_states else set()
        return frozenset({dimension.column.name for dimension in self.dimensions} | states)

    def created(self, *, indexed: bool) -> Iterator[Condition]:
        """Yield the conditions of the range of creation."""
        column = job.c.created_at if indexed else unindexed(job.c.created_at)
        if self.created_from is not None:
            yield column >= self.created_from
        if self.created_to is not None:
            yield column < self.created_to

    def in_states(self) -> Iterator[Condition]:
        """Yield the residual condition of the states, if they are filtered."""
        if self.filters_states:
            codes = {code for states in self.states.values() for code in states}
            yield unindexed(job.c.state).in_(sorted(codes))


def requested_filter(parameters: Iterable[tuple[str, str]]) -> JobFilter:
    """Return the filter in the parameters of a request's address. Raises `RefusedError` (400) if one is not valid."""
    try:
        return JobFilter.parse(parameters)
    except InvalidFilterError as error:
        raise RefusedError(400, "A parameter is not valid.", error.details) from None


def known_connections(reader: Connection, only: Collection[int] | None) -> dict[str, int]:
    """Return the numbers of connections by their ids, or of those whose numbers are in `only`."""
    rows = reader.execute(_CONNECTIONS).all()
    return {id_: number for id_, number in rows if only is None or number in only}


_CONNECTIONS = select(connection.c.id, connection.c.number).order_by(connection.c.number)


def select_jobs(reader: Connection, connections: Mapping[str, int], wanted: JobFilter, now: int) -> Selection:
    """Return `wanted` in the numbers of the database, within `connections`, at a moment."""
    if wanted.connection_id is not None:
        only = str(wanted.connection_id)
        connections = {id_: number for id_, number in connections.items() if id_ == only}
    counts = _jobs_by_state(reader, connections.values())
    shown = set(wanted.states or JobState)
    if wanted.problem is not None:
        shown &= STATES[wanted.problem]
    codes = {JOB_STATES.index(state) for state in shown}
    of_all = {
        number: {code: jobs for code, jobs in by_state.items() if code in codes} for number, by_state in counts.items()
    }
    states = {number: by_state for number, by_state in of_all.items() if by_state}
    return Selection(
        states,
        bool(wanted.states or wanted.problem),
        sum(sum(by_state.values()) for by_state in counts.values()),
        list(
            _dimensions(reader, {id_: number for id_, number in connections.items() if number in states}, wanted, now)
        ),
        wanted.created_from,
        wanted.created_to,
    )


def _jobs_by_state(reader: Connection, connections: Collection[int]) -> dict[int, dict[int, int]]:
    states: dict[int, dict[int, int]] = {}
    for number, state, jobs in reader.execute(_TALLIES, {"connections": list(connections)}).all():
        states.setdefault(number, {})[state] = jobs
    return states


_TALLIES = select(tally.c.connection, tally.c.state, tally.c.jobs).where(
    tally.c.connection.in_(bindparam("connections", expanding=True)), tally.c.jobs > 0
)


def _dimensions(reader: Connection, connections: Mapping[str, int], wanted: JobFilter, now: int) -> Iterator[Dimension]:
    for column, kind, texts in (
        (job.c.name, LabelKind.NAME, wanted.names),
        (job.c.queue, LabelKind.QUEUE, wanted.queues),
        (job.c.worker, LabelKind.WORKER, wanted.workers),
        (job.c.error_class, LabelKind.ERROR_CLASS, wanted.error_classes),
        (job.c.error_location, LabelKind.ERROR_LOCATION, wanted.error_locations),
    ):
        if texts:
            yield Dimension(column, find_labels(reader, kind, texts))
    if wanted.group_id is not None:
        yield Dimension(job.c.group_id, [wanted.group_id])
    if wanted.root_id is not None:
        uuids = [job_uuid(id_, wanted.root_id) for id_ in connections]
        yield Dimension(job.c.root_id, [wanted.root_id], _jobs_with_uuid(reader, connections, uuids))
    if wanted.problem is not None:
        yield _problem(reader, connections.values(), wanted.problem, now)
    if wanted.framework is not None:
        yield from _framework(reader, connections.values(), FRAMEWORKS.index(wanted.framework))
    if wanted.search:
        ids = _jobs_with_id(reader, connections, wanted.search)
        yield Dimension(job.c.number, (), ids) if ids else Dimension(job.c.name, find_names(reader, wanted.search))


_LATE = {
    JobProblem.EXPIRED: (job.c.expires_at, QUEUED_UNTIL),
    JobProblem.OVERDUE: (job.c.scheduled_for, HELD),
}
"""The times after which jobs are late, and the condition of the index of each."""


def _problem(reader: Connection, connections: Collection[int], problem: JobProblem, now: int) -> Dimension:
    if problem in _LATE:
        column, index_condition = _LATE[problem]
        before = now - LATE_AFTER
        indexed = and_(column < before, text(index_condition))
        return Dimension(column, conditions=(indexed, unindexed(column) < before))
    condition = running_with(reader, connections, problem, now)
    column = job.c.worker if problem is JobProblem.LOST else job.c.started_at
    return Dimension(column, is_indexed=False, conditions=(condition, condition))


def _framework(reader: Connection, connections: Collection[int], code: int) -> Iterator[Dimension]:
    """Yield the dimension of a framework. Celery, whose code is 0, has no index: it needs a filter only if any job is
    of another one."""
    others = (select(job.c.number).where(job.c.connection == number, text("framework <> 0")) for number in connections)
    if code or any(reader.scalar(other.limit(1)) is not None for other in others):
        yield Dimension(job.c.framework, [code], is_indexed=code != 0)


def _jobs_with_id(reader: Connection, connections: Mapping[str, int], text_of_id: str) -> list[int]:
    """Return the numbers of the jobs whose id, Sluice's or the framework's, is `text_of_id`."""
    return _jobs_with_uuid(reader, connections, job_uuids(text_of_id, connections))


def _jobs_with_uuid(reader: Connection, connections: Mapping[str, int], uuids: Collection[bytes]) -> list[int]:
    """Return the numbers of the jobs in `connections` with one of `uuids`."""
    rows = reader.execute(select(job.c.number, job.c.connection).where(job.c.uuid.in_(uuids)))
    return [row.number for row in rows if row.connection in connections.values()]
