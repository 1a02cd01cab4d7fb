"""The depth of SQS queues, against moto's server."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from celery import Celery
from moto.server import ThreadedMotoServer

from sluice_agent.monitor.queues.sampler import ELECTION
from tests.support.queue_sampling import running_sampler
from tests.support.waiting import wait_until, within

REGION = "eu-central-1"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of the SQS server."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def sqs(port: int) -> Any:
    """An AWS client that is independent of Celery's."""
    return boto3.client(
        "sqs",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=REGION,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


@pytest.fixture
def app_with(port: int) -> Iterator[Callable[..., Celery]]:
    """`app_with(**transport_options)`: an app whose broker is SQS, with a unique queue."""
    apps: list[Celery] = []

    def make(**options: Any) -> Celery:
        apps.append(app := Celery(broker=f"sqs://key:secret@127.0.0.1:{port}//", set_as_current=False))
        app.conf.broker_transport_options = {"region": REGION, "is_secure": False, **options}
        app.conf.task_default_queue = f"jobs-{uuid.uuid4().hex[:8]}"
        return app

    yield make
    for app in apps:
        app.close()


def exists(sqs: Any, name: str) -> bool:
    """Return whether a queue of this name exists."""
    return any(url.endswith(f"/{name}") for url in sqs.list_queues(QueueNamePrefix=name).get("QueueUrls", ()))


@pytest.mark.parametrize("prefix", ["", "shop-"])
def test_sqs_reports_visible_and_unacknowledged_messages(
    app_with: Callable[..., Celery], sqs: Any, prefix: str
) -> None:
    """Celery can't list SQS queues, and SQS has no Celery events: users have no other figure."""
    app = app_with(queue_name_prefix=prefix)
    for _ in range(3):
        app.send_task("unknown.task")
    queue = app.conf.task_default_queue
    url = sqs.get_queue_url(QueueName=f"{prefix}{queue}")["QueueUrl"]
    assert sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=1)["Messages"]
    with running_sampler(app, [queue, "missing"], connection_id=str(uuid.uuid4())) as sampling:
        wait_until(lambda: sampling.latest(queue) == {"name": queue, "depth": 2})
        assert sampling.sampler.depths[queue].unacked == 1
        assert sampling.latest("missing") is None
        assert not exists(sqs, f"{prefix}missing"), "sampling must not make a queue"
        sqs.purge_queue(QueueUrl=url)
        wait_until(lambda: sampling.depth(queue) == 0)
        sqs.delete_queue(QueueUrl=url)
        wait_until(lambda: queue not in sampling.sampler.depths)


def test_queues_that_are_named_in_the_settings(app_with: Callable[..., Celery], sqs: Any) -> None:
    """If the app may use only given queues, the agent must list and make none: a sidecar samples without election."""
    connection = str(uuid.uuid4())
    url = sqs.create_queue(QueueName="given")["QueueUrl"]
    app = app_with(predefined_queues={"given": {"url": url, "region": REGION}})
    sqs.send_message(QueueUrl=url, MessageBody="1")
    with (
        running_sampler(app, ["given", "another"], connection_id=connection) as sidecar,
        running_sampler(app, ["given"], connection_id=connection, must_be_elected=True) as worker,
    ):
        wait_until(lambda: len(sidecar.snapshots) > 3)
        assert sidecar.latest("given") == {"name": "given", "depth": 1}
        assert sidecar.latest("another") is None
        assert worker.snapshots == []
        assert not exists(sqs, f"{ELECTION.format(connection)}.fifo")


def test_one_samples_sqs_and_another_takes_over(app_with: Callable[..., Celery], sqs: Any) -> None:
    """Two samplers would cost twice the events, as on the other brokers."""
    app = app_with()
    app.send_task("unknown.task")
    options = {"connection_id": str(uuid.uuid4())}
    with running_sampler(app, [app.conf.task_default_queue], **options) as first:
        wait_until(lambda: first.snapshots)
        with running_sampler(app, [app.conf.task_default_queue], **options) as second:
            first.snapshots.clear()
            wait_until(lambda: len(first.snapshots) > 5)
            assert second.snapshots == []
            first.sampler.stop(10)
            wait_until(lambda: second.snapshots, 10, "the remaining one does not lead")


def test_a_leader_of_sqs_that_dies_is_replaced(app_with: Callable[..., Celery], sqs: Any) -> None:
    """It does not resign: its message must become visible again without its help."""
    app = app_with()
    app.send_task("unknown.task")
    connection = str(uuid.uuid4())
    url = sqs.create_queue(
        QueueName=f"{ELECTION.format(connection)}.fifo", Attributes={"FifoQueue": "true", "VisibilityTimeout": "18"}
    )["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="dead", MessageGroupId="leader", MessageDeduplicationId="1")
    assert sqs.receive_message(QueueUrl=url)["Messages"]  # its receiver is gone
    with running_sampler(app, [app.conf.task_default_queue], connection_id=connection) as sampling:
        within(30, lambda: sampling.snapshots, "no process has taken over")
