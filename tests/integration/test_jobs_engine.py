"""Runs are executed as a user has them: triggered over HTTP, carried by a broker, executed by Celery's workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.server.actions.assembly import ActionOptions
from sluice_agent.server.actions.brokers import Brokers
from sluice_agent.server.actions.celery_client import broker_at
from tests.support.brokers import Broker
from tests.support.endpoint import running
from tests.support.local_sluice import local_sluice
from tests.support.misbehaviour import status
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver
from tests.support.worker import WorkerProcess

StartWorker = Callable[..., WorkerProcess]
HELD = {"queued", "dequeued", "executing"}


def engine_of(broker: Broker, queue: str, **options: Any) -> dict[str, Any]:
    """Return the arguments of a server whose runs go to `queue` of a broker."""
    actions = ActionOptions(Brokers(default=broker_at(broker.url)))
    return {"has_jobs": True, "engine": EngineOptions(queue=queue, **options), "actions": actions}


def make_job(client: httpx.Client, target: WebhookReceiver, slug: str, **fields: Any) -> str:
    answer = client.post(
        "/jobs", json={"project_id": "shop", "name": "Mail", "slug": slug, "endpoint_url": target.hook, **fields}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def trigger(client: httpx.Client, job: str, **fields: Any) -> str:
    answer = client.post(f"/jobs/{job}/trigger", json=fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def read(client: httpx.Client, run: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/runs/{run}").json()
    return found


def wait_for_end(client: httpx.Client, runs: list[str], tail: Callable[[], str] = str) -> list[str]:
    """Return the states in which runs end."""
    found: dict[str, str] = {}

    def have_ended() -> bool:
        found.update((run, read(client, run)["status"]) for run in runs if found.get(run, "queued") in HELD)
        return not HELD.intersection(found.values())

    wait_until(have_ended, 60, "a run did not end", tail)
    return [found[run] for run in runs]


@pytest.mark.parametrize(("name", "pool"), [("redis", "gevent"), ("rabbitmq", "threads")])
def test_runs_are_executed_by_workers(
    brokers: Callable[[str], Broker], start_worker: StartWorker, tmp_path: Path, name: str, pool: str
) -> None:
    """A job that is triggered would never be executed, its retries be lost, or its limit exceeded.

    The runs wait for the worker first, and the worker is the first to make the queue.
    """
    broker = brokers(name)
    queue = f"jobs-{broker.queue}"
    with (
        running(WebhookReceiver()) as target,
        local_sluice(tmp_path / "s.db", **engine_of(broker, queue, look=0.2)) as server,
    ):
        client = server.client(path="/v1")
        job = make_job(client, target, "mail", retry_strategy="fixed", max_attempts=3)
        single = make_job(client, target, "single", max_concurrency=1)
        target.script(status(500), status(200, body='{"sent": 1}'))
        first = trigger(client, job, payload={"to": "a"}, priority=10)
        wait_until(lambda: "queue_without_workers" in read(client, first), 30, "no run tells that no worker is there")
        assert queue in read(client, first)["queue_without_workers"]
        assert target.requests == []
        worker = start_worker(
            broker=broker,
            pool=pool,
            args=["-I", "sluice_agent.jobs.tasks", "-Q", queue],
            env={"SLUICE_API_URL": f"{server.url}/api", "SLUICE_ENABLED": "0"},
        )
        assert wait_for_end(client, [first], worker.tail) == ["completed"]
        assert read(client, first)["result"] == {"sent": 1}
        assert "queue_without_workers" not in read(client, first)
        assert [request.headers["x-attempt"] for request in target.requests] == ["1", "2"]
        runs = [trigger(client, single, payload={"n": number}) for number in range(5)]
        assert wait_for_end(client, runs, worker.tail) == ["completed"] * 5
        assert [request.headers["x-run-id"] for request in target.requests[2:]] == runs
