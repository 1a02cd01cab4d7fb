"""The table of outcomes on a cluster without agents: the monitor reports all that events reveal, and correctly.

MATRIX=full runs more brokers and pools.
"""

from __future__ import annotations

import os
import re

import pytest

from tests.integration.outcomes.monitored_run import MonitoredRun, run_table_with_monitor
from tests.integration.outcomes.rules import FINAL
from tests.integration.outcomes.send import possible_rows
from tests.integration.outcomes.table import GEVENT, PREFORK, THREADS, Outcome
from tests.support.brokers import rabbitmq_broker, redis_broker

USUAL = [("redis", THREADS), ("rabbitmq", PREFORK)]
FULL = [*USUAL, ("redis", PREFORK), ("rabbitmq", GEVENT)]
COMBINATIONS = FULL if os.environ.get("MATRIX") == "full" else USUAL


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each row on each combination that can run it."""
    if "row" in metafunc.fixturenames:
        cases = [((broker, pool), row) for broker, pool in COMBINATIONS for row in possible_rows(pool, broker)]
        ids = [f"{broker}-{pool}-{row.name}" for (broker, pool), row in cases]
        metafunc.parametrize(("monitored_run", "row"), cases, indirect=["monitored_run"], ids=ids, scope="module")
    else:
        metafunc.parametrize("monitored_run", COMBINATIONS, indirect=True, ids="-".join, scope="module")


@pytest.fixture(scope="module")
def monitored_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MonitoredRun:
    """One run of the whole table on one broker and pool."""
    name, pool = request.param
    redis = request.getfixturevalue("redis_server")
    sent = {"task_send_sent_event": True}
    broker = redis_broker(redis, sent)
    if name == "rabbitmq":
        broker = rabbitmq_broker(request.getfixturevalue("rabbitmq_vhost"), redis, conf=sent)
    return run_table_with_monitor(broker, pool, tmp_path_factory.mktemp(f"monitored-{name}-{pool}"), agents=False)


def test_outcome(monitored_run: MonitoredRun, row: Outcome) -> None:
    """A user must see the outcome of each job on a cluster that can't be changed as well."""
    table_run = monitored_run.by_monitor
    assert table_run.walk(row) == monitored_run.expected(row), table_run.log()
    for event in table_run.events[row.name]:
        job = event["job"]
        assert job["name"] != "unknown"
        if "createdAt" in job:  # a worker's event may precede its producer's
            assert row.queue is None or job["queue"] == table_run.queue + row.queue
        assert job["extensions"].keys() >= {"celeryState", "rootId", "eventId"}
    last = table_run.events[row.name][-1]["job"] if table_run.events[row.name] else {}
    if row.error is not None and last.get("state") == "failed":
        assert re.fullmatch(row.error, last["error"], re.DOTALL), last["error"][:500]
    if row.stacktrace is not None:
        assert re.search(row.stacktrace, last["stacktrace"], re.DOTALL), last["stacktrace"]


def test_every_job_ends(monitored_run: MonitoredRun) -> None:
    """A job that belongs to no row, such as a child or a chord's body, and that stays open would raise false alarms."""
    last = [events[-1]["job"] for events in monitored_run.by_monitor.others.values()]
    assert [job for job in last if job["state"] not in FINAL] == []


def test_nothing_breaks_the_contract(monitored_run: MonitoredRun) -> None:
    """An event that the endpoint refuses is lost."""
    assert monitored_run.by_monitor.faults == []


def test_no_transition_is_reported_twice(monitored_run: MonitoredRun) -> None:
    """Each event costs a part of the daily allowance."""
    assert [event for event in monitored_run.by_monitor.duplicates if "job" in event] == []


def test_the_worker_is_reported(monitored_run: MonitoredRun) -> None:
    """A user must see it from its first heartbeat to its end, with what it answers to `inspect`."""
    reports = [event["worker"] for event in monitored_run.workers if event["worker"]["state"] != "heartbeat"]
    assert [report["state"] for report in reports][:1] == ["online"]
    assert [report["state"] for report in reports][-1:] == ["offline"]
    assert reports[-1]["metadata"]["pool"] == monitored_run.by_monitor.pool
    assert reports[-1]["concurrency"] > 1
    assert monitored_run.by_monitor.queue in reports[-1]["queues"]


def test_no_agent_reports(monitored_run: MonitoredRun) -> None:
    """Otherwise the table would not show what a monitor alone reports."""
    assert not any(monitored_run.by_agents.events.values())
