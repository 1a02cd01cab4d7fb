"""Agents in the workers and a monitor beside them, on one cluster: both tell each transition under the same id.

MATRIX=full asks for every pool on both brokers.
"""

from __future__ import annotations

import os

import pytest

from tests.integration.outcomes.stage import ROW_OF
from tests.integration.outcomes.table import GEVENT, PREFORK, THREADS
from tests.integration.outcomes.watched import Event, Watched, play_watched
from tests.support.brokers import rabbitmq_broker, redis_broker
from tests.support.endpoint import event_id_of

USUAL = [("redis", PREFORK), ("redis", GEVENT), ("rabbitmq", THREADS)]
FULL = [(broker, pool) for broker in ("redis", "rabbitmq") for pool in (PREFORK, THREADS, GEVENT)]
COMBINATIONS = FULL if os.environ.get("MATRIX") == "full" else USUAL


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """The whole table, played once. On Redis producers send events as well, on RabbitMQ only workers do."""
    name, pool = request.param
    redis = request.getfixturevalue("redis_server")
    broker = redis_broker(redis, {"task_send_sent_event": True})
    if name == "rabbitmq":
        broker = rabbitmq_broker(request.getfixturevalue("rabbitmq_server"), redis)
    return play_watched(broker, pool, tmp_path_factory.mktemp(f"beside-{name}-{pool}"), agents=True)


def told(jobs: dict[str, list[Event]]) -> dict[str | None, str]:
    """What was told of jobs, by the deduplication ids."""
    events = [event for found in jobs.values() for event in found]
    return {event_id_of(event): f"{event['job']['name']}: {event['job']['state']}" for event in events}


def test_the_monitor_adds_no_transition(watched: Watched) -> None:
    """A transition with two ids is shown, and paid for, twice."""
    agents, monitor = watched.by_agents, watched.by_monitor
    known = told(agents.events) | told(agents.others)
    believed = {name: events for name, events in monitor.events.items() if not ROW_OF[name].misreported}
    added = {key: event for key, event in (told(believed) | told(monitor.others)).items() if key not in known}
    assert added == {}


def test_the_monitor_tells_most_of_it(watched: Watched) -> None:
    """If it told nothing, it would add nothing."""
    agents, monitor = watched.by_agents, watched.by_monitor
    known = told(agents.events) | told(agents.others)
    both = told(monitor.events) | told(monitor.others)
    assert len(both) > 0.8 * len(known)


def test_the_monitor_tells_nothing_twice(watched: Watched) -> None:
    """Each event costs a part of a daily allowance."""
    assert [event for event in watched.by_monitor.duplicates if "queue" not in event] == []
    assert watched.by_monitor.faults == []


def test_the_monitor_leaves_workers_to_their_agents(watched: Watched) -> None:
    """Their agents know more of them, and say it."""
    assert watched.workers == []


def test_the_monitor_samples_the_queues(watched: Watched) -> None:
    """Nobody else looks at them."""
    assert watched.by_agents.queue in watched.queues
