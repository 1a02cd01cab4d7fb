"""What a list of jobs must be, from a plain reading of all rows, and a check of random lists against it."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from sluice_agent.model import Framework, JobState
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.job_problem import JobProblem
from sluice_agent.server.queries.order import Order, SortKey
from sluice_agent.server.queries.plan import Limits, find_keys
from sluice_agent.server.queries.problems import LATE_AFTER, STATES
from sluice_agent.server.queries.selection import known_connections, select_jobs
from sluice_agent.server.queries.sorting import SortBy, SortOrder
from sluice_agent.server.store.codes import FRAMEWORKS, JOB_STATES
from sluice_agent.server.store.schema import job, label
from tests.support.server_data import NOW

WAYS = (
    Limits(),
    Limits(read_all=0),
    Limits(read_all=0, sorted=0),
    Limits(read_all=0, sorted=0, covered=0),
    Limits(read_all=0, sorted=0, covered=0, merged=1),
    Limits(read_all=0, tried=5),
    Limits(read_all=5, sorted=50, covered=50),
)
"""Limits by which each way to a page is taken, with few jobs."""

_DAY = 86_400_000_000
_PAGES = 8
_TIMES = {
    SortBy.CREATED_AT: "created_at",
    SortBy.STATE_CHANGED_AT: "changed_at",
    SortBy.STARTED_AT: "started_at",
    SortBy.COMPLETED_AT: "completed_at",
    SortBy.DURATION_MS: "duration_ms",
}


class Jobs:
    """All rows of a database, and what a list of them would be."""

    def __init__(self, reader: Connection) -> None:
        self.reader = reader
        self.rows = reader.execute(select(job)).all()
        self.by_number = {row.number: row for row in self.rows}
        self.texts: dict[int | None, str] = {
            row.number: row.text for row in reader.execute(select(label.c.number, label.c.text))
        }
        self.connections = known_connections(reader, None)

    def numbers(self, connections: Mapping[str, int], wanted: JobFilter, order: Order) -> list[int]:
        """Return the numbers of the jobs that are selected, in their order."""
        matching = (row for row in self.rows if row.connection in connections.values() and self._matches(row, wanted))
        keys = [SortKey(self._value(row, order.by), row.created_at, row.number) for row in matching]
        return [key.number for key in order.sorted(keys, None)]

    def _value(self, row: Row[Any], by: SortBy) -> Any:
        if by in _TIMES:
            return getattr(row, _TIMES[by])
        return JOB_STATES[row.state].value if by is SortBy.STATE else self.texts.get(getattr(row, by.value))

    def _matches(self, row: Row[Any], wanted: JobFilter) -> bool:
        def among(values: Collection[str], number: int | None) -> bool:
            return not values or self.texts.get(number) in values

        return (
            (not wanted.states or JOB_STATES[row.state] in wanted.states)
            and among(wanted.names, row.name)
            and among(wanted.queues, row.queue)
            and among(wanted.workers, row.worker)
            and among(wanted.error_classes, row.error_class)
            and among(wanted.error_locations, row.error_location)
            and (wanted.problem is None or _is_late(row, wanted.problem))
            and wanted.framework in (None, FRAMEWORKS[row.framework])
            and wanted.root_id in (None, row.root_id, row.external_id)
            and wanted.group_id in (None, row.group_id)
            and (wanted.created_from is None or row.created_at >= wanted.created_from)
            and (wanted.created_to is None or row.created_at < wanted.created_to)
            and (wanted.search is None or wanted.search.lower() in self.texts[row.name].lower())
        )


def _is_late(row: Row[Any], problem: JobProblem) -> bool:
    """Return whether a job has a problem that its row alone shows."""
    moment = row.expires_at if problem is JobProblem.EXPIRED else row.scheduled_for
    return JOB_STATES[row.state] in STATES[problem] and moment is not None and moment < NOW - LATE_AFTER


def check_lists(jobs: Jobs, by: SortBy, limits: Limits, count: int) -> None:
    """Compare `count` random lists with the plain reading."""
    for seed in range(count):
        chance = random.Random(f"{by} {limits} {seed}")
        order, size = Order(by, chance.choice(list(SortOrder))), chance.choice([7, 50, 400])
        one = chance.choice(list(jobs.connections.items()))
        connections = chance.choice([jobs.connections, dict([one])])
        wanted = _some_filter(chance, jobs)
        expected = jobs.numbers(connections, wanted, order)
        found = _pages(jobs, connections, wanted, order, size, limits, most=len(expected))
        assert found == expected[: size * _PAGES], wanted


def _some_filter(chance: random.Random, jobs: Jobs) -> JobFilter:
    """Return up to a few filters that some job fulfils, most of the time."""
    row = chance.choice(jobs.rows)

    def sometimes(value: Any, otherwise: Any = None, share: float = 0.25) -> Any:
        return value if chance.random() < share else otherwise

    return JobFilter(
        states=sometimes([*chance.sample(list(JobState), 2), JOB_STATES[row.state]], ()),
        names=sometimes([jobs.texts[row.name], "absent"], ()),
        queues=sometimes([jobs.texts[row.queue], "queue-03"], ()),
        workers=sometimes([jobs.texts.get(row.worker, "absent")], ()),
        error_classes=sometimes(["Error01", "Error02"], (), 0.1),
        error_locations=sometimes(["shop/tasks.py:3 in step_3"], (), 0.1),
        framework=sometimes(chance.choice([Framework.CELERY, Framework.CELERY, Framework.SIDEKIQ]), None, 0.2),
        root_id=sometimes(row.root_id or row.external_id, None, 0.15),
        group_id=sometimes(row.group_id, None, 0.1),
        created_from=sometimes(NOW - chance.randrange(7) * _DAY),
        created_to=sometimes(NOW - chance.randrange(5) * _DAY),
        problem=sometimes(chance.choice([JobProblem.EXPIRED, JobProblem.OVERDUE]), None, 0.1),
        search=sometimes(chance.choice(["MAIL", "task_0", "nothing", "shop"])),
    )


def _pages(
    jobs: Jobs, connections: Mapping[str, int], wanted: JobFilter, order: Order, size: int, limits: Limits, most: int
) -> list[int]:
    """Return the numbers of the jobs on the first pages, followed by their cursors."""
    selection = select_jobs(jobs.reader, connections, wanted, NOW)
    numbers: list[int] = []
    after = None
    for _ in range(_PAGES):
        keys, total = find_keys(jobs.reader, selection, order, after, size, limits)
        assert total.jobs == most or not total.is_exact, wanted
        assert total.jobs <= most
        numbers += [key.number for key in keys[:size]]
        if len(keys) <= size:
            break
        row = jobs.by_number[numbers[-1]]
        after = order.decode(jobs.reader, order.encode(row._mapping[order.column], keys[size - 1]))
    return numbers
