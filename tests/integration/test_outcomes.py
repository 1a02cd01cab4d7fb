"""Every row of the table, on every selected pool and broker: the reported walk is what happened to the job.

One worker runs all rows of a pool and broker at once. MATRIX=full selects all pools on all brokers; without it the
combinations that differ most run.
"""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest

from tests.integration.outcomes.rules import FINAL, missing_extensions, violations
from tests.integration.outcomes.send import possible_rows, version
from tests.integration.outcomes.table import EVENTLET, GEVENT, POOLS, PREFORK, SOLO, THREADS, Outcome
from tests.integration.outcomes.table_run import TableRun, run_table
from tests.support.brokers import BROKERS, filesystem_broker, rabbitmq_broker, redis_broker

USUAL = (
    *(("redis", pool) for pool in (PREFORK, THREADS, GEVENT, EVENTLET, SOLO)),
    *(("rabbitmq", pool) for pool in (PREFORK, THREADS, GEVENT)),
    ("rabbitmq-quorum", PREFORK),
    ("filesystem", PREFORK),
)
FULL = tuple((broker, pool) for broker in BROKERS for pool in POOLS)
SELECTED = FULL if os.environ.get("MATRIX") == "full" else USUAL
OTHER = Outcome("other", "a job that belongs to no row", str, {})
# Celery before 5.5 has no quorum queues.
COMBINATIONS = [(broker, pool) for broker, pool in SELECTED if version() >= (5, 5) or "quorum" not in broker]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each row on each combination that can run it."""
    if "row" in metafunc.fixturenames:
        cases = [((broker, pool), row) for broker, pool in COMBINATIONS for row in possible_rows(pool, broker)]
        ids = [f"{broker}-{pool}-{row.name}" for (broker, pool), row in cases]
        metafunc.parametrize(("table_run", "row"), cases, indirect=["table_run"], ids=ids, scope="module")
    else:
        ids = [f"{broker}-{pool}" for broker, pool in COMBINATIONS]
        metafunc.parametrize("table_run", COMBINATIONS, indirect=True, ids=ids, scope="module")


@pytest.fixture(scope="module")
def table_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TableRun:
    """One run of the whole table on one broker and pool."""
    broker, pool = request.param
    directory = tmp_path_factory.mktemp(f"{broker}-{pool}")
    if broker == "filesystem":
        return run_table(filesystem_broker(directory / "broker"), pool, directory)
    redis = request.getfixturevalue("redis_server")
    if broker == "redis":
        return run_table(redis_broker(redis), pool, directory)
    rabbitmq = request.getfixturevalue("rabbitmq_vhost")
    return run_table(rabbitmq_broker(rabbitmq, redis, quorum=broker == "rabbitmq-quorum"), pool, directory)


def test_outcome(table_run: TableRun, row: Outcome) -> None:
    """A user who looks at a job must see its outcome, with the error and details that help."""
    assert table_run.walk(row) == table_run.expected(row), table_run.log()
    events = table_run.events[row.name]
    assert violations(row, events, table_run.queue) == []
    last = events[-1]["job"]
    if row.error is not None and last["state"] == "failed":
        assert re.fullmatch(row.error, last.get("error", ""), re.DOTALL), last.get("error", "")[:500]
    if row.stacktrace is not None:
        assert re.search(row.stacktrace, last.get("stacktrace", ""), re.DOTALL), last.get("stacktrace")
    assert {name: last.get(name) for name in row.job} == dict(row.job)
    for state, expected in ((last["state"], row.extensions), *row.of_state.items()):
        last_of_state = [event for event in events if event["job"]["state"] == state][-1:]
        assert [
            fault for event in last_of_state for fault in missing_extensions(event, expected, table_run.broker)
        ] == []


def test_a_job_has_its_worker_and_its_times(table_run: TableRun) -> None:
    """Otherwise a user could not tell where a job ran, or how long it waited and ran; `test_brokers` has the others."""
    queued, active, completed = (event["job"] for event in table_run.events["success"])
    assert active["workerId"] == completed["workerId"] == table_run.worker
    assert queued["createdAt"] == active["createdAt"] == completed["createdAt"]
    assert queued["createdAt"] <= active["startedAt"] <= completed["completedAt"]


def test_every_job_ends(table_run: TableRun) -> None:
    """A job that belongs to no row, such as a child or a chord's body, and that stays open would raise false alarms."""
    assert [events[-1]["job"] for events in table_run.others.values() if events[-1]["job"]["state"] not in FINAL] == []


def test_the_rules_hold_for_every_job(table_run: TableRun) -> None:
    """Jobs from a task, a canvas or beat must be reported as fully as those from a program."""
    faults = {
        external_id: violations(OTHER, events, table_run.queue) for external_id, events in table_run.others.items()
    }
    assert {external_id: sentences for external_id, sentences in faults.items() if sentences} == {}


def test_nothing_breaks_the_contract(table_run: TableRun) -> None:
    """An event that the endpoint refuses is lost."""
    assert table_run.faults == []


def test_no_transition_is_reported_twice(table_run: TableRun) -> None:
    """Each event costs a part of the daily allowance."""
    allowed = {
        event["job"]["externalId"]: row.duplicates
        for row in possible_rows(table_run.pool, table_run.broker)
        for event in table_run.events.get(row.name, [])
    }
    twice = Counter(event["job"]["externalId"] for event in table_run.duplicates if "job" in event)
    assert [job for job, count in twice.items() if count > allowed.get(job, 0)] == []
