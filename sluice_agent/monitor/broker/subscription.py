"""How the monitor subscribes to events. The usual way is Celery's: a queue that lives as long as its connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from uuid import uuid4

from celery import Celery
from celery.events.event import get_exchange
from kombu import Connection, Consumer, Exchange, Message, Queue

_KEPT_SECONDS = 60.0
"""How long RabbitMQ keeps an unread event. Celery's own receivers set 5 s: a stall of that length loses events."""

_EXPIRES_SECONDS = 120.0  # until RabbitMQ removes the queue of a receiver that vanished without closing it


class Acknowledgements(Protocol):
    """The acknowledgements of a broker that keeps messages until then, and delivers them again otherwise."""

    def token(self, message: Message) -> tuple[Any, bool]:
        """Return its acknowledgement token, and False for a redelivery that is already in the journal."""

    def mark_processed(self, token: Any, received_seq: int) -> None:
        """Record that the tracker has taken all events of a message. To be called in order of arrival."""

    def ack_through(self, ack_watermark: float) -> None:
        """Acknowledge the messages that were processed up to this number of `Tracker.received_seq`."""


class Subscription(Protocol):
    """The source of events, over one connection after the other."""

    read_ahead_limit: int
    """The most bytes that may be read ahead of decoding: few, where the broker keeps what is not read."""

    @property
    def acks(self) -> Acknowledgements | None:
        """The acknowledgements, if the broker keeps events while no monitor listens; None: what is not read is lost."""

    def open(self, connection: Connection, on_message: Callable[[Message], None]) -> Any:
        """Subscribe, and return the channel on which messages arrive."""

    def close(self) -> None:
        """Unsubscribe, and leave nothing in the broker that has no further use."""


class Transient:
    """A private queue, fed while its connection lasts, as Celery's own receivers have it: pub/sub on Redis."""

    acks: Acknowledgements | None = None
    read_ahead_limit = 0

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._consumer: Consumer | None = None
        self._queue_name = ""

    def open(self, connection: Connection, on_message: Callable[[Message], None]) -> Any:
        """Declare a queue for this connection alone, and consume it."""
        channel = connection.channel()
        is_broker_buffering = connection.transport.driver_type == "amqp"
        self.read_ahead_limit = 2_000_000 if is_broker_buffering else 24_000_000
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

    def close(self) -> None:
        """Delete the queue, which a broker without auto-delete would keep."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.cancel()
            consumer.channel.queue_delete(self._queue_name)


def event_exchange(app: Celery, connection: Connection) -> Exchange:
    """Return the exchange to which this cluster's workers publish events."""
    exchange: Exchange = get_exchange(connection, name=app.conf.event_exchange)
    return exchange
