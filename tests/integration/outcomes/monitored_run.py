"""The table with a monitor that receives Celery events: beside the workers' agents, or alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.outcomes.send import version
from tests.integration.outcomes.table import Outcome, Walk
from tests.integration.outcomes.table_run import (
    APP,
    CONCURRENCY,
    REPORT_TIMEOUT,
    ROW_OF,
    TableRun,
    agent_env,
    all_reported,
    collect_run,
    send_all,
    walk_of_events,
)
from tests.support.brokers import Broker
from tests.support.endpoint import Endpoint
from tests.support.fixtures import WITHOUT_AGENT
from tests.support.sidecar import Sidecar
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

QUEUE_SECONDS = 1.0
WORKER_ARGS = ["-E", "--heartbeat-interval=6"]
"""The monitor reports a worker that misses three as lost: a worker of a busy machine may send nothing for 8 seconds."""
FINAL_STATE_TIMEOUT = 40.0
"""Seconds after its worker's end until a job's last event; the monitor waits for 15."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MonitoredRun:
    """The events from the agents (none, if there are no agents) and from the monitor during one run of the table."""

    by_agents: TableRun
    by_monitor: TableRun
    queues: dict[str, list[Event]]
    """The monitor's queue snapshots by queue name."""
    workers: list[Event]
    """The monitor's worker events."""

    def expected(self, row: Outcome) -> Walk | None:
        """Return the walk that the monitor must report for `row`."""
        return row.monitor_walk(self.by_monitor.pool, version(), self.by_monitor.broker)


def run_table_with_monitor(broker: Broker, pool: str, directory: Path, *, agents: bool) -> MonitoredRun:
    """Run the table on a worker with `-E`, with or without agents, until the monitor has reported all that it can."""
    endpoints = agent_endpoint, monitor_endpoint = Endpoint(), Endpoint()
    env = agent_env(agent_endpoint, directory)
    sender_env = env if agents else {**env, **WITHOUT_AGENT}
    queue_interval = {"SLUICE_QUEUE_INTERVAL": str(QUEUE_SECONDS)}
    sidecar = Sidecar(directory, broker, {**env, **queue_interval, "SLUICE_API_URL": monitor_endpoint.url})
    try:
        worker = WorkerProcess(
            directory,
            broker,
            app=APP,
            pool=pool,
            concurrency=CONCURRENCY,
            env=sender_env,
            args=WORKER_ARGS,
        )
        try:
            if not agents:  # the monitor knows the queues of an exchange once it has inspected the worker
                wait_until(
                    lambda: len(monitor_endpoint.queues()) > 1,
                    FINAL_STATE_TIMEOUT,
                    "the worker was not inspected",
                    sidecar.tail,
                )
            ids = send_all(worker, sender_env, directory)

            def missing(*, at_the_end: bool) -> dict[str, tuple[Walk, Walk]]:
                """Return the expected and the actual walks of the rows whose last state is not reported."""
                jobs = monitor_endpoint.jobs()
                walks = {}
                for name, external_id in ids.items():
                    expected = ROW_OF[name].monitor_walk(pool, version(), broker.name) or ()
                    if not at_the_end:  # reported when the worker has ended, if not before
                        expected = tuple(step for step in expected if step[0] != "unknown")
                    walk = walk_of_events(jobs.get(external_id, []))
                    if not set(expected[-1:]) <= set(walk):
                        walks[name] = expected, walk
                return walks

            if agents:  # the monitor leaves jobs to them
                wait_until(
                    lambda: all_reported(agent_endpoint, broker, pool, ids),
                    REPORT_TIMEOUT,
                    "not reported by the agents",
                    worker.tail,
                )
                worker.process.stop(grace=20.0)
            else:
                wait_until(
                    lambda: not missing(at_the_end=False),
                    REPORT_TIMEOUT,
                    "not reported",
                    lambda: missing(at_the_end=False),
                )
                worker.process.stop(grace=20.0)
                wait_until(
                    lambda: not missing(at_the_end=True),
                    FINAL_STATE_TIMEOUT,
                    "not reported",
                    lambda: missing(at_the_end=True),
                )
                wait_until(
                    lambda: all(
                        events[-1]["worker"]["state"] == "offline" for events in monitor_endpoint.workers().values()
                    ),
                    FINAL_STATE_TIMEOUT,
                    "a worker is not offline",
                )
        finally:
            worker.teardown()
        assert sidecar.terminate() == 0, sidecar.tail()
        return MonitoredRun(
            collect_run(agent_endpoint, broker, pool, worker.hostname, ids, worker.tail),
            collect_run(monitor_endpoint, broker, pool, worker.hostname, ids, sidecar.tail),
            monitor_endpoint.queues(),
            [event for events in monitor_endpoint.workers().values() for event in events],
        )
    finally:
        sidecar.stop()
        for endpoint in endpoints:
            endpoint.close()
