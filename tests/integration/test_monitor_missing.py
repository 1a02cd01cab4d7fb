"""Jobs without further events: on real brokers, with a worker that runs without -E."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from celery import Celery

from tests.support.brokers import Broker
from tests.support.running_monitor import running_monitor
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

ADD = "tests.integration.tasks.add"


def send(app: Celery, queue: str, **options: float) -> str:
    """Send a job to `queue`; return its id."""
    return str(app.send_task(ADD, (1, 2), queue=queue, **options).id)


@pytest.mark.parametrize("broker_name", ["redis", "rabbitmq"])
def test_jobs_that_only_their_producer_reports(
    brokers: Callable[[str], Broker], broker_name: str, start_worker: Callable[..., WorkerProcess]
) -> None:
    """Otherwise a job that ran without events, or was purged, would seem to wait for ever; real waiting must show."""
    broker = brokers(broker_name)
    worker = start_worker(broker=broker, agent=False)
    app = broker.with_conf(task_send_sent_event=True, task_create_missing_queues=True).app()
    options = {"enable_events": False, "queue_interval": 1.0, "missing_seconds": 2.0, "heartbeat_interval": 0.0}
    with running_monitor(broker.url, **options) as monitor:  # type: ignore[arg-type]
        unreported, held = send(app, broker.queue), send(app, broker.queue, countdown=300)
        other = f"{broker.queue}-other"
        purged, waiting = [send(app, other) for _ in range(2)], f"{broker.queue}-waiting"
        waits = send(app, waiting)
        with app.connection_for_write() as connection:
            connection.default_channel.queue_purge(other)
        wait_until(
            lambda: all(monitor.states(job) == ["queued", "unknown"] for job in (unreported, *purged)),
            40,
            "a job seems to wait",
            lambda: [monitor.states(job) for job in (unreported, *purged)],
        )
        assert f"[{unreported}] succeeded" in worker.logs()
        assert (monitor.states(held), monitor.states(waits)) == (["scheduled"], ["queued"])
        assert not monitor.dropped
