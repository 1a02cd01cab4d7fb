"""The queue of a task, by the queues and bindings that workers report."""

from __future__ import annotations

import pytest

from sluice_agent.monitor.tracker.bindings import Bindings
from tests.unit.monitor.cluster import WORKER, Cluster

TOPIC = {"name": "orders", "exchange": {"name": "shop", "type": "topic"}, "routing_key": "order.#", "bindings": []}
DIRECT = {"name": "mail", "exchange": {"name": "post", "type": "direct"}, "routing_key": "letter", "bindings": None}
BOUND = {
    "name": "audit",
    "exchange": None,
    "routing_key": "",
    "bindings": [{"exchange": {"name": "shop", "type": "topic"}, "routing_key": "*.audit"}],
}


@pytest.mark.parametrize(
    ("exchange", "routing_key", "queue"),
    [
        ("", "mail", "mail"),
        ("", "not.reported", "not.reported"),
        ("post", "letter", "mail"),
        ("shop", "order.created.eu", "orders"),
        ("shop", "stock.audit", "audit"),
        ("shop", "stock.counted", None),
        ("celery_delayed_27", f"{'0.' * 28}letter", "mail"),
    ],
)
def test_where_a_message_goes(exchange: str, routing_key: str, queue: str | None) -> None:
    """Exchange and routing key select the queue, as the queues are bound."""
    bindings = Bindings()
    assert [bindings.learn(entry) for entry in (TOPIC, DIRECT, BOUND)] == ["orders", "mail", "audit"]
    assert bindings.learn_queue_of({"exchange": exchange, "routing_key": routing_key}) == queue


def test_the_default_queue_that_celery_names_instead() -> None:
    """Celery reports a task that is published to an exchange in the default queue, where it never was."""
    cluster = Cluster()
    cluster.beat()
    cluster.task("sent", "job-1", "gen7@host", 7, queue="celery", exchange="post", routing_key="letter")
    cluster.tracker.on_reply(WORKER, "active_queues", [TOPIC, DIRECT])
    cluster.task("sent", "job-2", "gen7@host", 7, queue="celery", exchange="post", routing_key="letter")
    cluster.wait(2)
    queues = [cluster.jobs(job)[0]["job"]["queue"] for job in ("job-1", "job-2")]
    assert queues == ["celery", "mail"]  # the first: before a worker has reported its bindings


def test_queues_without_end() -> None:
    """A queue for every user, or for every reply, must not fill the memory."""
    bindings = Bindings()
    for number in range(15_000):
        bindings.learn_queue_of({"exchange": "", "routing_key": f"reply.{number}"})
        bindings.learn_queue_of({"exchange": "shop", "routing_key": f"order.{number}"})
        bindings.learn({"name": f"queue-{number}"})
    assert len(bindings.names) <= 10_000
