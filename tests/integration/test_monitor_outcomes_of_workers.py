"""A monitor alone, without agents, reports the jobs of a worker that ends.

MATRIX=full runs the other pools.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.outcomes.running_job import BEGUN, RunningJob
from tests.integration.outcomes.send import version
from tests.integration.outcomes.table import POOLS, PREFORK, SOLO
from tests.integration.outcomes.table_run import walk_of_events
from tests.integration.outcomes.workers import ENDINGS_OF_WORKERS, Ending, cold, faults, soft, warm
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.sidecar import Sidecar
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

USUAL = [("redis", PREFORK), ("rabbitmq", PREFORK)]
FULL = [*(("redis", pool) for pool in POOLS), ("rabbitmq", PREFORK), ("rabbitmq", SOLO)]
CASES = [
    pytest.param(row, broker, pool, id=f"{broker}-{pool}-{row.name}")
    for broker, pool in (FULL if os.environ.get("MATRIX") == "full" else USUAL)
    for row in ENDINGS_OF_WORKERS
    if row.monitor_walk(pool, version(), broker) is not None
]

SENT = {"task_send_sent_event": True}
FINAL_STATE_TIMEOUT = 40.0
"""Seconds until a job's last event; the monitor waits for 15 after a worker's `worker-offline`."""


@pytest.mark.parametrize(("row", "broker", "pool"), CASES)
def test_end_of_a_worker(
    start_worker: Callable[..., WorkerProcess],
    start_sidecar: Callable[..., Sidecar],
    producer: Callable[..., Producer],
    tmp_path: Path,
    endpoint: Endpoint,
    row: Ending,
    broker: str,
    pool: str,
) -> None:
    """A user who can't change the workers deploys, scales down and runs out of memory too, and must see the loss."""
    worker = start_worker(broker=broker, pool=pool, concurrency=1, conf=row.conf, args=["-E"], agent=False)
    sidecar = start_sidecar(broker)
    begun = "queued" if pool == SOLO else BEGUN  # a solo worker sends its events when the job has ended
    job = RunningJob(producer(broker, conf=SENT, agent=False), tmp_path, endpoint, row.task, begun)
    job.wait_for_walk(begun, context=sidecar.tail)  # until it has inspected the worker, the monitor reports nothing
    row.drive(worker, job)
    expected = row.monitor_walk(pool, version(), broker)
    is_reported = lambda: walk_of_events(endpoint.jobs().get(job.id, [])) == expected  # noqa: E731 - short
    wait_until(
        is_reported,
        FINAL_STATE_TIMEOUT,
        f"{row.name}: {expected}",
        lambda: f"{job.walk()}\n{worker.tail()}\n{sidecar.tail()}",
    )
    assert faults(row, endpoint.jobs()[job.id], worker, agents=False) == []
    if row.drive in (warm, soft, cold) and not worker.running:  # a solo worker may outlive its cold shutdown
        states = lambda: {event["worker"]["state"] for event in endpoint.workers()[worker.hostname]}  # noqa: E731
        wait_until(lambda: "offline" in states(), 10, "not offline", sidecar.tail)
    assert [event for event in endpoint.duplicates if "job" in event] == []
