"""What a worker says of itself."""

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


def said_by(endpoint: Endpoint, worker: WorkerProcess) -> list[dict[str, Any]]:
    """The worker's own events, in their order."""
    return [event["worker"] for event in endpoint.workers().get(worker.hostname, [])]


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent", "eventlet"])
def test_a_worker_lives_from_online_to_offline(
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    tmp_path: Path,
    pool: str,
) -> None:
    """Without it a worker that is busy with one long task is shown as dead, and one that has ended as alive."""
    worker = start_worker(pool=pool, env=BEATING)
    started, release = tmp_path / "started", tmp_path / "release"
    job = producer().send("hold", str(started), str(release))
    wait_until(started.exists, 20, "the task did not start", worker.tail)

    def beats_while_busy() -> bool:
        beats = [word for word in said_by(endpoint, worker) if word["state"] == "heartbeat" and word["activeJobs"] == 1]
        return len(beats) >= 3

    wait_until(beats_while_busy, 15, "a busy worker does not beat", worker.tail)
    release.touch()
    wait_until(lambda: endpoint.states(job)[-1:] == ["completed"], 10, "the task did not end", worker.tail)
    wait_until(lambda: "idle" in [word["state"] for word in said_by(endpoint, worker)], 10, "the worker is not idle")
    assert worker.terminate().code == 0

    words = said_by(endpoint, worker)
    turns = [word["state"] for word in words if word["state"] != "heartbeat"]
    assert turns == ["online", "busy", "idle", "offline"]
    assert {word["pid"] for word in words} == {worker.pid}
    assert {word["hostname"] for word in words} == {"test"}
    assert all(word["queues"] == [worker.broker.queue] for word in words[:-1])
    assert words[0]["concurrency"] == (1 if pool == "solo" else 2)
    metadata = words[0]["metadata"]
    assert metadata["pool"] == pool
    assert metadata["software"].startswith("celery ")
    assert {"python", "kombu", "agent", "eventId"} <= metadata.keys()
    assert endpoint.duplicates == []


def test_no_heartbeats_where_none_are_wanted(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Without it a user who pays by the event can't switch off the events that are most of them."""
    worker = start_worker(env={"SLUICE_HEARTBEAT_INTERVAL": "0"})
    job = producer().send("sleep", 2)
    wait_until(lambda: endpoint.states(job)[-1:] == ["completed"], 20, "the task did not end", worker.tail)
    assert worker.terminate().code == 0
    assert "heartbeat" not in [word["state"] for word in said_by(endpoint, worker)]
