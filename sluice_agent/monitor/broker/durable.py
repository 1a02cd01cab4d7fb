"""A named queue on RabbitMQ that collects events also while no monitor listens, shared by any number of sidecars.

It is a quorum queue, so that it survives the broker's restart, and it has one active consumer: the events of a job make
sense in their order and to one tracker. The broker chooses that consumer; when it stops, the next continues from there.
An event is acknowledged when it has its line in the journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu import Connection, Consumer, Message, Queue

from sluice_agent.monitor.broker.subscription import event_exchange

_PREFETCH = 10_000  # unacknowledged messages: those of two seconds, for which the tracker may hold back events
_MAX_SEEN = 2 * _PREFETCH
_PRECONDITION_FAILED = 406


@dataclass(frozen=True, slots=True)
class DurableQueue:
    """The queue's name, and how far it may grow while no monitor listens; then the oldest messages are removed."""

    name: str
    max_messages: int
    keep_seconds: float


class QueueMismatchError(Exception):
    """Raised where a queue of that name exists with other arguments."""

    def __init__(self, name: str, why: object) -> None:
        super().__init__(
            f"The queue {name} was made with other numbers, or for another purpose ({why}): choose another name "
            "with --durable, give --durable-seconds and --durable-messages as they were, or delete the queue"
        )


class Durable:
    """The subscription to a `DurableQueue`. A message processed but not acknowledged is not processed again."""

    read_ahead_limit = 16_000_000

    def __init__(self, app: Celery, queue: DurableQueue) -> None:
        self._app = app
        self._queue = queue
        self._consumer: Consumer | None = None
        self._channel: Any = None
        # Processed and not acknowledged: the tracker's `received_seq` by then, the delivery tag, the body's hash.
        self._unacked: deque[tuple[int, int, int]] = deque()
        self._seen: set[int] = set()  # hashes of those of lost connections: the broker redelivers these messages

    @property
    def acks(self) -> Durable:
        """This object: it acknowledges messages too."""
        return self

    def open(self, connection: Connection, on_message: Callable[[Message], None]) -> Any:
        """Declare the queue where it is absent, and consume it once this replica is the active one.

        Raises `QueueMismatchError` where it exists with other arguments.
        """
        self.connection_lost()
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
            max_length=self._queue.max_messages,
            message_ttl=self._queue.keep_seconds,
        )
        self._channel = channel = connection.channel()
        try:
            self._consumer = Consumer(channel, [queue], on_message=on_message, accept=None, prefetch_count=_PREFETCH)
            self._consumer.consume()
        except connection.channel_errors as error:
            if getattr(error, "code", None) != _PRECONDITION_FAILED:
                raise
            raise QueueMismatchError(self._queue.name, error.reply_text) from error
        return channel

    def connection_lost(self) -> None:
        """Remember the messages that were processed and not acknowledged: the broker redelivers them."""
        if len(self._seen) > _MAX_SEEN:
            self._seen = set()
        self._seen.update(digest for _, _, digest in self._unacked)
        self._unacked.clear()

    def token(self, message: Message) -> tuple[Any, bool]:
        """Return its token, and whether it is new: not a redelivery of a message that this process has processed."""
        digest = hash(message.body)
        is_seen = bool(message.delivery_info.get("redelivered")) and digest in self._seen
        if is_seen:
            self._seen.discard(digest)
        return (message.delivery_tag, digest), not is_seen

    def mark_processed(self, token: Any, received_seq: int) -> None:
        """Keep the token until its message may be acknowledged."""
        self._unacked.append((received_seq, *token))

    def ack_through(self, ack_watermark: float) -> None:
        """Acknowledge the messages whose events have their lines, up to the first that has not."""
        tag = 0
        while self._unacked and self._unacked[0][0] <= ack_watermark:
            _, tag, _ = self._unacked.popleft()
        if tag:
            self._channel.basic_ack(tag, multiple=True)

    def close(self) -> None:
        """Stop consuming. The queue stays, and collects."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.cancel()


def why_not_durable(app: Celery) -> str | None:
    """Return why this app's broker can't have a durable queue of events, and what to do instead; None where it can."""
    driver = app.connection_for_read().transport.driver_type
    if driver == "amqp":
        return None
    return (
        f"--durable needs RabbitMQ, and this broker is {driver}, which keeps no event while no monitor listens: to "
        "lose nothing here, let the workers report their jobs: sluice_agent.install(), or `-I sluice_agent.auto`"
    )
