"""How events are subscribed to. The usual way is Celery's own: a queue that lives as long as its connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from uuid import uuid4

from celery import Celery
from celery.events.event import get_exchange
from kombu import Connection, Consumer, Exchange, Message, Queue

_KEPT_SECONDS = 60.0
"""How long RabbitMQ keeps an event that is not taken. Celery's own receivers say 5 s: a stall as long loses events."""

_EXPIRES_SECONDS = 120.0  # until RabbitMQ removes the queue of a receiver that is gone without a word


class Subscription(Protocol):
    """Where events come from on one connection after the other."""

    most_ahead: int
    """The most bytes that may be read ahead of decoding: where the broker keeps what is not read, little will do."""

    is_durable: bool
    """Whether the broker keeps what comes while nobody listens, and hands out again what was not settled."""

    def open(self, connection: Connection, on_message: Callable[[Message], None]) -> Any:
        """Subscribe, and return the channel on which messages come."""

    def token(self, message: Message) -> tuple[Any, bool]:
        """Return its acknowledgement token, and False for a redelivery that is already in the journal."""

    def mark_processed(self, token: Any, received_seq: int) -> None:
        """The observer has all events of the message that was marked so. In the order in which messages came."""

    def ack_through(self, ack_watermark: float) -> None:
        """Acknowledge the messages that were processed up to this number of `Tracker.received_seq`."""

    def close(self) -> None:
        """Leave nothing behind in the broker that is of no use any more."""


class Transient:
    """A queue of one's own that is fed while one listens, as Celery's own receivers have it: pub/sub on Redis."""

    is_durable = False
    most_ahead = 0

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._consumer: Consumer | None = None
        self._queue_name = ""

    def open(self, connection: Connection, on_message: Callable[[Message], None]) -> Any:
        """Declare a queue of this connection's own, and consume it."""
        channel = connection.channel()
        is_broker_buffering = connection.transport.driver_type == "amqp"
        self.most_ahead = 2_000_000 if is_broker_buffering else 24_000_000
        self._queue_name = f"{self._app.conf.event_queue_prefix}.{uuid4()}"
        queue = Queue(
            self._queue_name,
            exchange=event_exchange(self._app, connection),
            routing_key="#",
            auto_delete=True,
            durable=False,
            message_ttl=_KEPT_SECONDS,
            expires=_EXPIRES_SECONDS,
        )
        self._consumer = Consumer(channel, [queue], no_ack=True, on_message=on_message, accept=None)
        self._consumer.consume()
        return channel

    def token(self, message: Message) -> tuple[Any, bool]:  # noqa: ARG002 - there is nothing to acknowledge
        """Every message is new."""
        return None, True

    def mark_processed(self, token: Any, received_seq: int) -> None:
        """Nothing is to be acknowledged."""

    def ack_through(self, ack_watermark: float) -> None:
        """Nothing is to be acknowledged."""

    def close(self) -> None:
        """Remove the queue, which a broker without auto-delete would keep."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.cancel()
            consumer.channel.queue_delete(self._queue_name)


def event_exchange(app: Celery, connection: Connection) -> Exchange:
    """The exchange to which this cluster's workers publish events."""
    exchange: Exchange = get_exchange(connection, name=app.conf.event_exchange)
    return exchange


def disable_push_log(channel: Any) -> None:
    """Keep redis-py from writing every message into a text for a log that is switched off: a fifth of an event's cost.

    After the first look for messages, which makes the connection. Does nothing to other brokers, nor where redis-py has
    no such log.
    """
    connection = getattr(channel.__dict__.get("subclient"), "connection", None)
    set_handler = getattr(getattr(connection, "_parser", None), "set_pubsub_push_handler", None)
    if set_handler is not None:
        set_handler(lambda response: response)
