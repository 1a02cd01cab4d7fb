"""The tasks' app with further queues: one on a direct and one on a topic exchange, each with a different name."""

from __future__ import annotations

from kombu import Exchange, Queue

from tests.integration.tasks import app

QUEUE = app.conf.task_default_queue
DIRECT = f"{QUEUE}-direct"
TOPIC = f"{QUEUE}-topic"

_kind = {"queue_arguments": {"x-queue-type": "quorum"}} if app.conf.get("task_default_queue_type") == "quorum" else {}
app.conf.task_queues = [
    Queue(
        QUEUE,
        Exchange(QUEUE, type=app.conf.task_default_exchange_type),
        routing_key=QUEUE,
        **_kind,
    ),
    Queue(DIRECT, Exchange(f"{DIRECT}-exchange"), routing_key="to-direct", **_kind),
    Queue(TOPIC, Exchange(f"{TOPIC}-exchange", type="topic"), routing_key="order.#", **_kind),
]
