"""The events of a worker about itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

BEATING = {"SLUICE_HEARTBEAT_INTERVAL": "0.5"}


def reports_of(endpoint: Endpoint, worker: WorkerProcess) -> list[dict[str, Any]]:
    """Return the worker events of `worker` in order."""
    return [event["worker"] for event in endpoint.workers().get(worker.hostname, [])]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent", "eventlet"])
def test_a_worker_lives_from_online_to_offline(
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    tmp_path: Path,
    pool: str,
) -> None:
    """Otherwise a worker that runs one long task would be shown as dead, and one that has ended as alive."""
    worker = start_worker(pool=pool, env=BEATING)
    started, release = tmp_path / "started", tmp_path / "release"
    job = producer().send("hold", str(started), str(release))
    wait_until(started.exists, 20, "the task did not start", worker.tail)

    def beats_while_busy() -> bool:
        reports = reports_of(endpoint, worker)
        return sum(report["state"] == "heartbeat" and report["activeJobs"] == 1 for report in reports) >= 3

    wait_until(beats_while_busy, 15, "a busy worker sends no heartbeats", worker.tail)
    release.touch()
    wait_until(lambda: endpoint.states(job)[-1:] == ["completed"], 10, "the task did not end", worker.tail)
    wait_until(
        lambda: "idle" in [report["state"] for report in reports_of(endpoint, worker)], 10, "the worker is not idle"
    )
    assert worker.terminate().code == 0
    assert worker.logs().count("is on for") == worker.logs().count("sluice-agent stops: everything is delivered") == 1

    reports = reports_of(endpoint, worker)
    states = [report["state"] for report in reports if report["state"] != "heartbeat"]
    assert states == ["online", "busy", "idle", "offline"]
    assert {report["pid"] for report in reports} == {worker.pid}
    assert {report["hostname"] for report in reports} == {"test"}
    assert all(report["queues"] == [worker.broker.queue] for report in reports[:-1])
    assert reports[0]["concurrency"] == (1 if pool == "solo" else 2)
    metadata = reports[0]["metadata"]
    assert metadata["pool"] == pool
    assert metadata["software"].startswith("celery ")
    assert {"python", "kombu", "agent", "eventId"} <= metadata.keys()
    assert endpoint.duplicates == []


def test_no_heartbeats_where_none_are_wanted(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Otherwise a user who pays by the event could not switch off the most frequent events."""
    worker = start_worker(env={"SLUICE_HEARTBEAT_INTERVAL": "0"})
    job = producer().send("sleep", 2)
    wait_until(lambda: endpoint.states(job)[-1:] == ["completed"], 20, "the task did not end", worker.tail)
    assert worker.terminate().code == 0
    assert "heartbeat" not in [report["state"] for report in reports_of(endpoint, worker)]
