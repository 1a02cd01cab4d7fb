"""The list of jobs: every filter, sort and page, whatever way is taken to it, and what it reads for that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event

from sluice_agent.model import JobState
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.job_problem import JobProblem
from sluice_agent.server.queries.order import Order
from sluice_agent.server.queries.plan import Limits, find_keys
from sluice_agent.server.queries.selection import select_jobs
from sluice_agent.server.queries.sorting import SortBy, SortOrder
from sluice_agent.server.store.schema import APART, metadata
from tests.support.examples import examples
from tests.support.plain_lists import WAYS, Jobs, check_lists
from tests.support.server_data import NOW, fill

JOBS = 3_000


@pytest.fixture(scope="module")
def jobs() -> Iterator[Jobs]:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        fill(connection, JOBS, steps_every=JOBS)
        yield Jobs(connection)
    engine.dispose()


@pytest.mark.parametrize("limits", WAYS)
@pytest.mark.parametrize("by", list(SortBy))
def test_pages_are_those_of_a_plain_reading(jobs: Jobs, by: SortBy, limits: Limits) -> None:
    """A user would otherwise miss jobs, see them twice, or in another order, once there are many of them."""
    check_lists(jobs, by, limits, examples(20))


MAIN = {
    "all": JobFilter(),
    "states": JobFilter(states=[JobState.FAILED, JobState.COMPLETED]),
    "queue": JobFilter(queues=["queue-03"]),
    "queues": JobFilter(queues=["queue-03", "queue-04"]),
    "worker": JobFilter(workers=["celery@worker-07"]),
    "name": JobFilter(names=["shop.mail.task_000"]),
    "connection and search": JobFilter(search="MAIL"),
    **{problem.value: JobFilter(problem=problem) for problem in JobProblem},
}


@pytest.mark.parametrize("name", MAIN)
@pytest.mark.parametrize("by", list(SortBy))
def test_no_list_reads_or_sorts_the_whole_table(jobs: Jobs, by: SortBy, name: str) -> None:
    """With a million jobs a list would otherwise take seconds; with the few jobs of a test nobody would see it."""
    limits = Limits(read_all=0, sorted=0, covered=0)
    for direction in SortOrder:
        selection = select_jobs(jobs.reader, jobs.connections, MAIN[name], NOW)
        with statements_of(jobs.reader) as statements:
            find_keys(jobs.reader, selection, Order(by, direction), None, 50, limits)
        assert statements
        for statement, parameters in statements:
            plan = [row[3] for row in jobs.reader.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert not [step for step in plan if "SCAN job" in step or "TEMP B-TREE" in step], (statement, plan)


@pytest.mark.parametrize("wanted", [JobFilter(queues=["queue-03", "queue-04"]), JobFilter(search="MAIL")])
def test_the_tasks_in_a_queue_and_the_queues_of_tasks_are_found_by_their_index(jobs: Jobs, wanted: JobFilter) -> None:
    """A list of a queue by name would otherwise look through all jobs of each task that is not in the queue."""
    selection = select_jobs(jobs.reader, jobs.connections, wanted, NOW)
    order = Order(SortBy.NAME if wanted.queues else SortBy.QUEUE, SortOrder.ASC)
    with statements_of(jobs.reader) as statements:
        find_keys(jobs.reader, selection, order, None, 50, Limits(read_all=0, sorted=0, covered=0))
    found = [(statement, parameters) for statement, parameters in statements if "label.text" in statement]
    assert found
    for statement, parameters in found:
        plan = [row[3] for row in jobs.reader.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        assert any("job_by_queue_and_name (connection=? AND queue=? AND name=?" in step for step in plan), plan


@pytest.mark.parametrize("direction", list(SortOrder))
def test_the_longest_and_the_shortest_runs_of_tasks_are_read_from_their_index(jobs: Jobs, direction: SortOrder) -> None:
    """A list of the longest runs of a short task would otherwise pass all longer runs of other tasks."""
    selection = select_jobs(jobs.reader, jobs.connections, JobFilter(search="task_00"), NOW)
    order = Order(SortBy.DURATION_MS, direction)
    with statements_of(jobs.reader) as statements:
        found = find_keys(jobs.reader, selection, order, None, 50, Limits(read_all=0, sorted=0, covered=0)).keys
    every = find_keys(jobs.reader, selection, order, None, 50, Limits(read_all=JOBS)).keys
    assert [key.number for key in found] == [key.number for key in every]
    statement, parameters = statements[-1]
    plan = [row[3] for row in jobs.reader.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    assert any("job_by_name_and_duration (connection=? AND name=?" in step for step in plan), plan
    assert not [step for step in plan if "TEMP B-TREE" in step]


def test_jobs_apart_from_a_range_of_creation_are_read_from_their_index(jobs: Jobs) -> None:
    """A list of the last day, sorted by another time, would otherwise read the jobs of all days."""
    wanted = JobFilter(created_from=NOW - 86_400_000_000)
    selection = select_jobs(jobs.reader, jobs.connections, wanted, NOW)
    limits = Limits(read_all=0, sorted=0, covered=0)
    with statements_of(jobs.reader) as statements:
        find_keys(jobs.reader, selection, Order(SortBy.COMPLETED_AT, SortOrder.DESC), None, 50, limits)
    apart = [(statement, parameters) for statement, parameters in statements if APART in statement]
    assert apart
    for statement, parameters in apart:
        plan = [row[3] for row in jobs.reader.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        assert any("job_apart" in step for step in plan), plan


@pytest.mark.parametrize("by", [SortBy.WORKER, SortBy.STARTED_AT])
def test_a_page_of_some_tasks_is_at_the_beginning_of_an_index_or_sorted(jobs: Jobs, by: SortBy) -> None:
    """A search of ten tasks would otherwise read each of their jobs; or miss jobs that are further away."""
    selection = select_jobs(jobs.reader, jobs.connections, JobFilter(search="task_0"), NOW)
    for direction in SortOrder:
        order = Order(by, direction)
        read = find_keys(jobs.reader, selection, order, None, 50, Limits(read_all=JOBS)).keys
        with statements_of(jobs.reader) as statements:
            near = find_keys(jobs.reader, selection, order, None, 50, Limits(read_all=0)).keys
        for statement, parameters in statements:
            plan = [row[3] for row in jobs.reader.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert not [step for step in plan if "TEMP B-TREE" in step], (statement, plan)
        far = find_keys(jobs.reader, selection, order, None, 50, Limits(read_all=0, tried=5)).keys
        assert [key.number for key in near] == [key.number for key in far] == [key.number for key in read]


@contextmanager
def statements_of(reader: Connection) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements that are executed in the block, with their parameters."""
    statements: list[tuple[str, Any]] = []

    def collect(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(reader, "before_cursor_execute", collect)
    yield statements
    event.remove(reader, "before_cursor_execute", collect)
