"""Agents in the workers and a monitor beside them, on one cluster: the monitor leaves to the agents what they report.

MATRIX=full runs every pool on both brokers.
"""

from __future__ import annotations

import os

import pytest

from tests.integration.outcomes.monitored_run import Event, MonitoredRun, run_table_with_monitor
from tests.integration.outcomes.table import GEVENT, PREFORK, THREADS
from tests.integration.outcomes.table_run import TableRun
from tests.support.brokers import rabbitmq_broker, redis_broker
from tests.support.endpoint import event_id_of
from tests.support.records import record_of_events

USUAL = [("redis", PREFORK), ("redis", GEVENT), ("rabbitmq", THREADS)]
FULL = [(broker, pool) for broker in ("redis", "rabbitmq") for pool in (PREFORK, THREADS, GEVENT)]
COMBINATIONS = FULL if os.environ.get("MATRIX") == "full" else USUAL
WAITING = ("queued", "scheduled")


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def monitored_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MonitoredRun:
    """One run of the whole table. On Redis producers send events as well, on RabbitMQ only workers do."""
    name, pool = request.param
    redis = request.getfixturevalue("redis_server")
    broker = redis_broker(redis, {"task_send_sent_event": True})
    if name == "rabbitmq":
        broker = rabbitmq_broker(request.getfixturevalue("rabbitmq_vhost"), redis)
    return run_table_with_monitor(broker, pool, tmp_path_factory.mktemp(f"beside-{name}-{pool}"), agents=True)


def job_events(table_run: TableRun) -> list[Event]:
    """Return all job events of one reporter."""
    return [event for jobs in (table_run.events, table_run.others) for events in jobs.values() for event in events]


def test_hardly_anything_is_sent_twice(monitored_run: MonitoredRun) -> None:
    """An event that both send wastes the host's network, and the daily allowance."""
    by_agents, by_monitor = job_events(monitored_run.by_agents), job_events(monitored_run.by_monitor)
    both = {event_id_of(event) for event in by_agents} & {event_id_of(event) for event in by_monitor}
    assert len(both) <= 0.02 * (len(by_agents) + len(by_monitor)), both


def test_the_monitor_adds_no_transition(monitored_run: MonitoredRun) -> None:
    """A user would see a transition with two ids twice, and pay for it twice."""
    known = {event_id_of(event) for event in job_events(monitored_run.by_agents)}
    added = [event["job"] for event in job_events(monitored_run.by_monitor) if event_id_of(event) not in known]
    assert [f"{job['name']}: {job['state']}" for job in added] == []


@pytest.mark.parametrize("first", ["agents", "monitor"])
def test_no_record_is_poorer_for_the_monitor(monitored_run: MonitoredRun, first: str) -> None:
    """Whichever is faster, a job's record must have all that the agents know of it."""
    orders = [monitored_run.by_agents, monitored_run.by_monitor]
    for name, events in monitored_run.by_agents.events.items():
        alone = record_of_events(events)
        first_events: dict[str | None, Event] = {}
        for table_run in orders if first == "agents" else reversed(orders):
            for event in table_run.events[name]:
                first_events.setdefault(event_id_of(event), event)
        merged = record_of_events(first_events.values())
        known = {key: value for key, value in alone.items() if value is not None and key != "stateHistory"}
        assert {key: merged[key] for key in known} == known, name
        for entry, before in zip(merged["stateHistory"], alone["stateHistory"], strict=True):
            # An agent that has only received a job knows less of when it was published than a monitor.
            assert entry["state"] == before["state"], name
            assert entry == before or (before["state"] in WAITING and entry["timestamp"] < before["timestamp"]), name


def test_the_monitor_reports_nothing_twice(monitored_run: MonitoredRun) -> None:
    """Each event costs a part of the daily allowance."""
    assert [event for event in monitored_run.by_monitor.duplicates if "queue" not in event] == []
    assert monitored_run.by_monitor.faults == []


def test_the_monitor_leaves_workers_to_their_agents(monitored_run: MonitoredRun) -> None:
    """Their agents know more of them, and report it."""
    assert monitored_run.workers == []


def test_the_monitor_samples_the_queues(monitored_run: MonitoredRun) -> None:
    """The workers' agents don't sample them by default."""
    assert monitored_run.by_agents.queue in monitored_run.queues
