"""A Celery and a kombu, newer than the agent, that publish by other methods than those that the agent patches."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.accounting import status_of
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

APP = "tests.integration.apps.other_kombu"
WALK = ["queued", "active", "retrying", "active", "completed"]


@pytest.mark.parametrize(
    ("other", "method"),
    [("names", "Producer._publish"), ("publisher", "Producer._publish"), ("sender", "AMQP._create_task_sender")],
)
def test_jobs_are_reported_all_the_same(
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    other: str,
    method: str,
) -> None:
    """Otherwise an upgrade of Celery could stop every worker, or leave jobs without a report of their waiting."""
    env = {"OTHER": other}
    worker = start_worker(app=APP, env=env)
    code = f"from {APP} import *\nprint(retry_then_succeed.delay(1).id)"
    job = producer(env=env).run(code)
    wait_until(lambda: endpoint.states(job) == WALK, 20, "the job did not arrive", endpoint.walks)
    assert endpoint.duplicates == []
    assert endpoint.jobs()[job][0]["job"]["createdAt"], "its producer has reported it"
    assert worker.terminate().code == 0
    [line] = [line for line in worker.logs().splitlines() if "sluice-agent reports less" in line]
    assert f"{method}: " in line
    report = status_of(worker.env)
    assert report["captured"] == report["delivered"]
