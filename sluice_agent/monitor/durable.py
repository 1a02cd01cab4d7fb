"""A named queue on RabbitMQ that collects events whether anybody listens or not, shared by any number of sidecars.

It is a quorum queue, so that it outlives the broker's restart, and it has one active consumer: the events of a job make
sense in their order and to one observer. The broker chooses that one, and when it goes the next goes on where it was.
An event is acknowledged when it has its line in the journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu import Connection, Consumer, Message, Queue

from sluice_agent.monitor.subscription import event_exchange

_PREFETCH = 10_000  # messages on their way: those of two seconds, for which the observer may hold back what it hears
_MOST_KNOWN = 2 * _PREFETCH
_PRECONDITION_FAILED = 406


@dataclass(frozen=True, slots=True)
class DurableQueue:
    """What to call the queue, and what it may grow to while nobody listens; then the oldest messages go first."""

    name: str
    most_messages: int
    keep_seconds: float


class AnotherQueueError(Exception):
    """A queue of that name is there, and is not what was asked for."""

    def __init__(self, name: str, why: object) -> None:
        super().__init__(
            f"The queue {name} was made with other numbers, or for something else ({why}): name another "
            "with --durable, give --durable-seconds and --durable-messages as they were, or delete the queue"
        )


class Durable:
    """The subscription to a `DurableQueue`. What was taken and could not be acknowledged is not taken again."""

    is_durable = True
    most_ahead = 16_000_000

    def __init__(self, app: Celery, queue: DurableQueue) -> None:
        self._app = app
        self._queue = queue
        self._consumer: Consumer | None = None
        self._channel: Any = None
        # What was taken and is not acknowledged yet: what was heard by then, the message's tag, its body's hash.
        self._unacked: deque[tuple[int, int, int]] = deque()
        self._known: set[int] = set()  # the same of connections that went: the broker hands these messages out again

    def open(self, connection: Connection, on_message: Callable[[Message], None]) -> Any:
        """Declare the queue where it is absent, and consume it once this replica is the active one.

        Raises `AnotherQueueError` where it is there and has other arguments.
        """
        self.lose()
        queue = Queue(
            self._queue.name,
            exchange=event_exchange(self._app, connection),
            routing_key="#",
            durable=True,
            auto_delete=False,
            queue_arguments={
                "x-queue-type": "quorum",
                "x-single-active-consumer": True,
                "x-overflow": "drop-head",
            },
            max_length=self._queue.most_messages,
            message_ttl=self._queue.keep_seconds,
        )
        self._channel = channel = connection.channel()
        try:
            self._consumer = Consumer(channel, [queue], on_message=on_message, accept=None, prefetch_count=_PREFETCH)
            self._consumer.consume()
        except connection.channel_errors as error:
            if getattr(error, "code", None) != _PRECONDITION_FAILED:
                raise
            raise AnotherQueueError(self._queue.name, error.reply_text) from error
        return channel

    def lose(self) -> None:
        """The connection went: what it brought, and was not acknowledged, is handed out again."""
        if len(self._known) > _MOST_KNOWN:
            self._known = set()
        self._known.update(digest for _, _, digest in self._unacked)
        self._unacked.clear()

    def token(self, message: Message) -> tuple[Any, bool]:
        """Redelivered messages that this process took before are not new."""
        digest = hash(message.body)
        is_fact = bool(message.delivery_info.get("redelivered")) and digest in self._known
        if is_fact:
            self._known.discard(digest)
        return (message.delivery_tag, digest), not is_fact

    def mark_processed(self, token: Any, received_seq: int) -> None:
        """To be acknowledged."""
        self._unacked.append((received_seq, *token))

    def ack_through(self, ack_watermark: float) -> None:
        """Acknowledge what has its lines, up to the first message that has not."""
        tag = 0
        while self._unacked and self._unacked[0][0] <= ack_watermark:
            _, tag, _ = self._unacked.popleft()
        if tag:
            self._channel.basic_ack(tag, multiple=True)

    def close(self) -> None:
        """The queue stays, and collects."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.cancel()


def why_not_durable(app: Celery) -> str | None:
    """Why this app's broker can't have a durable queue of events, and what to do instead; None where it can."""
    driver = app.connection_for_read().transport.driver_type
    if driver == "amqp":
        return None
    return (
        f"--durable needs RabbitMQ, and this broker is {driver}, which keeps no event that nobody takes: to lose "
        "nothing here, let the workers tell it themselves: sluice_agent.install(), or `-I sluice_agent.auto`"
    )
