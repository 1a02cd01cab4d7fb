"""Every broker with every pool on which the table of outcomes does not run, by pytest-celery's setup."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_celery import CeleryTestSetup

from tests.integration.test_outcomes import COMBINATIONS
from tests.support.brokers import BROKERS, Broker
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import POOLS

DONE = ["queued", "active", "completed"]
OTHERS = [(broker, pool) for broker in BROKERS for pool in POOLS if (broker, pool) not in COMBINATIONS]


@pytest.mark.parametrize(("broker_name", "pool"), OTHERS)
def test_a_job_arrives_on_every_broker_in_every_pool(
    celery_setup: CeleryTestSetup, broker: Broker, producer: Callable[..., Producer], endpoint: Endpoint, pool: str
) -> None:
    """Otherwise a user's broker or pool might be one on which the agent captures nothing."""
    job = producer(broker).send("add", 1, 2)
    worker = celery_setup.worker.container
    wait_until(lambda: endpoint.states(job) == DONE, 30, "the job did not arrive", worker.tail)
    queued, active, completed = (event["job"] for event in endpoint.jobs()[job])
    assert {job["queue"] for job in (queued, active, completed)} == {broker.queue}
    assert active["workerId"] == completed["workerId"] == worker.hostname
    assert queued["createdAt"] == active["createdAt"] == completed["createdAt"]
    assert queued["createdAt"] <= active["startedAt"] <= completed["completedAt"]
    assert endpoint.duplicates == []
