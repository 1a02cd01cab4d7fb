"""Dropped events are reported beside the jobs, and the report can't be lost with a single event."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sluice_agent.transport.journal.writer import JournalWriter
from tests.support.endpoint import Endpoint
from tests.support.misbehaviour import rejects
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess


def reports(endpoint: Endpoint) -> list[dict[str, int]]:
    """Return the counts of dropped events in the delivered heartbeats."""
    workers = [event["worker"] for event in list(endpoint.events) if event["type"] == "worker_heartbeat"]
    return [worker["metadata"]["dropped"] for worker in workers if "dropped" in worker["metadata"]]


def test_heartbeats_repeat_the_counts_until_they_are_delivered(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], state_dir: Path, sluice_env: dict[str, str]
) -> None:
    """A dashboard that hides its holes is worse than none."""
    journal = JournalWriter(state_dir / sluice_env["SLUICE_CONNECTION_ID"], 64_000_000)
    journal.drop("disk")
    journal.drop("disk")
    journal.drop("before_send")
    journal.close()
    drop = {"disk": 2, "before_send": 1}
    endpoint.standing(rejects(lambda event: "dropped" in event.get("worker", {}).get("metadata", {})))
    worker = start_worker(env={"SLUICE_HEARTBEAT_INTERVAL": "0.2"}, broker="filesystem", pool="solo")
    wait_until(lambda: list(state_dir.glob("*/dead/*")), 20, "no report was refused", worker.tail)
    assert reports(endpoint) == []
    endpoint.standing()
    wait_until(lambda: reports(endpoint), 20, "the dropped events are not reported", worker.tail)
    assert reports(endpoint)[0] == drop
    assert worker.terminate().code == 0


def test_a_message_without_an_id_is_counted(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """A message that Celery discards belongs to no job, but the user must know that one was discarded."""
    worker = start_worker(env={"SLUICE_HEARTBEAT_INTERVAL": "0.2"}, broker="filesystem", pool="solo")
    producer("filesystem").run("""
        from tests.integration.tasks import app
        with app.producer_or_acquire() as producer:
            producer.publish({"hello": "world"}, exchange="", routing_key=app.conf.task_default_queue)
    """)
    wait_until(lambda: reports(endpoint), 20, "the dropped message is not reported", worker.tail)
    assert reports(endpoint)[0] == {"malformed_message": 1}
    assert endpoint.jobs() == {}
