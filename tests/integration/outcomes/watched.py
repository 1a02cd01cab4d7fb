"""The table once more, with a monitor that listens to the broker's events: beside the workers' agents, or alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.outcomes.send import version
from tests.integration.outcomes.stage import (
    APP,
    CONCURRENCY,
    LONGEST,
    ROW_OF,
    Played,
    agent_env,
    all_told,
    folded,
    played_by,
    send_all,
)
from tests.integration.outcomes.table import Outcome, Walk
from tests.support.brokers import Broker
from tests.support.endpoint import Endpoint
from tests.support.fixtures import WITHOUT_AGENT
from tests.support.sidecar import Sidecar
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

QUEUE_SECONDS = 1.0
LAST_WORDS = 40.0
"""Seconds after its worker's end until nothing more is told of a job; the monitor waits for 15."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Watched:
    """What was told while the table was played, by the agents (nothing, where there are none) and by the monitor."""

    by_agents: Played
    by_monitor: Played
    queues: dict[str, list[Event]]
    """The monitor's snapshots of queues, by their names."""
    workers: list[Event]
    """The monitor's words on workers."""

    def expected(self, row: Outcome) -> Walk | None:
        """What the monitor is to tell of `row`."""
        return row.watched_walk(self.by_monitor.pool, version(), self.by_monitor.broker)


def play_watched(broker: Broker, pool: str, directory: Path, *, agents: bool) -> Watched:
    """Play the table on a worker that sends events, with or without agents, until the monitor has told what it can."""
    endpoints = told, watched = Endpoint(), Endpoint()
    env = agent_env(told, directory)
    sender_env = env if agents else {**env, **WITHOUT_AGENT}
    queue_interval = {"SLUICE_QUEUE_INTERVAL": str(QUEUE_SECONDS)}
    sidecar = Sidecar(directory, broker, {**env, **queue_interval, "SLUICE_API_URL": watched.url})
    try:
        worker = WorkerProcess(
            directory, broker, app=APP, pool=pool, concurrency=CONCURRENCY, env=sender_env, args=["-E"]
        )
        try:
            if not agents:  # which queue an exchange leads to is known when the worker has been asked for its own
                wait_until(lambda: len(watched.queues()) > 1, LAST_WORDS, "the worker was not asked", sidecar.tail)
            ids = send_all(worker, sender_env, directory)

            def missing(*, at_the_end: bool) -> dict[str, tuple[Walk, Walk]]:
                """The rows of which the last word is not told, and how they are told."""
                jobs = watched.jobs()
                found = {}
                for name, external_id in ids.items():
                    expected = ROW_OF[name].watched_walk(pool, version(), broker.name) or ()
                    if not at_the_end:  # nobody knows the verdict: it is told when the worker has ended, if not before
                        expected = tuple(step for step in expected if step[0] != "unknown")
                    walk = folded(jobs.get(external_id, []))
                    if not set(expected[-1:]) <= set(walk):
                        found[name] = expected, walk
                return found

            if agents:  # what they know, they tell themselves
                wait_until(lambda: all_told(told, broker, pool, ids), LONGEST, "not told by the agents", worker.tail)
                worker.process.stop(grace=20.0)
            else:
                wait_until(
                    lambda: not missing(at_the_end=False), LONGEST, "not told", lambda: missing(at_the_end=False)
                )
                worker.process.stop(grace=20.0)
                wait_until(
                    lambda: not missing(at_the_end=True), LAST_WORDS, "not told", lambda: missing(at_the_end=True)
                )
                wait_until(
                    lambda: all(events[-1]["worker"]["state"] == "offline" for events in watched.workers().values()),
                    LAST_WORDS,
                    "a worker is still there",
                )
        finally:
            worker.teardown()
        assert sidecar.terminate() == 0, sidecar.tail()
        return Watched(
            played_by(told, broker, pool, ids, worker.tail),
            played_by(watched, broker, pool, ids, sidecar.tail),
            watched.queues(),
            [event for events in watched.workers().values() for event in events],
        )
    finally:
        sidecar.stop()
        for endpoint in endpoints:
            endpoint.close()
