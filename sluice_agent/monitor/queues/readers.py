"""The depth of a queue, and one reader of depths for each kind of broker. That of SQS has its own file."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sluice_agent.log import warn_limited
from sluice_agent.monitor.queues.management import Management

_BINDINGS_EVERY = 60.0  # seconds: queues that are bound meanwhile are discovered within a minute

_FIRST_PAUSE, _MAX_PAUSE = 2.0, 60.0  # seconds until RabbitMQ is asked again for an absent queue
_MAX_DELAYED_PAUSE = 900.0  # the same for the queues of delayed delivery, which most clusters never have
# kombu's native_delayed_delivery declares all of them at once.
_DELAYED = tuple(f"celery_delayed_{level}" for level in range(28))


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """One queue at one moment.

    `ready` jobs wait in it for a worker. `consumers` consume from it, and `unacked` jobs are with them; None where the
    broker has no such figure.
    """

    ready: int
    consumers: int | None = None
    unacked: int | None = None


class QueueReader(Protocol):
    """Reads depths from one kind of broker, over the sampler's own connection. Raises what the connection raises."""

    def depths(self, names: Collection[str], consumed: Collection[str] | None = None) -> dict[str, QueueDepth]:
        """Return those of `names` that exist, and other queues that the broker relates to them: see each reader.

        Workers consume from the queues in `consumed`, so those exist; None: consumers are not known.
        """
        ...


class VirtualQueueReader:
    """Reads the given queues, as kombu's channel counts them. Such brokers don't know their consumers."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._channel = connection.channel()

    def depths(self, names: Collection[str], consumed: Collection[str] | None = None) -> dict[str, QueueDepth]:  # noqa: ARG002 (QueueReader's)
        """Return the depth of each queue that exists."""
        depths = {}
        for name in names:
            try:
                depths[name] = QueueDepth(self._channel.queue_declare(queue=name, passive=True).message_count)
            except self._connection.channel_errors:  # it does not exist
                continue
        return depths


class RedisQueueReader:
    """Reads the given queues, and those that workers have bound to the same exchanges."""

    def __init__(self, channel: Any, exchanges: Iterable[str]) -> None:
        self._channel = channel
        self._exchanges = sorted(set(exchanges))
        self._bound: set[str] = set()
        self._bindings_read_at = -_BINDINGS_EVERY

    def depths(self, names: Collection[str], consumed: Collection[str] | None = None) -> dict[str, QueueDepth]:  # noqa: ARG002 (QueueReader's)
        """Return the depth of each queue, of those discovered by their bindings too. An empty queue has no key."""
        self._read_bindings()
        queues = sorted({*names, *self._bound})
        steps = self._channel.priority_steps
        keys = [(name, self._channel._q_for_pri(name, step)) for name in queues for step in steps]
        ready = dict.fromkeys(queues, 0)
        with self._channel.client.pipeline(transaction=False) as pipe:  # no transaction: a cluster has none
            for _, key in dict.fromkeys(keys):
                pipe.llen(key)
            lengths = pipe.execute()
        for (name, _), length in zip(dict.fromkeys(keys), lengths, strict=True):
            ready[name] += length
        return {name: QueueDepth(length) for name, length in ready.items()}

    def _read_bindings(self) -> None:
        if time.monotonic() - self._bindings_read_at < _BINDINGS_EVERY:
            return
        self._bound = {str(row[2]) for exchange in self._exchanges for row in self._channel.get_table(exchange)}
        self._bindings_read_at = time.monotonic()


class RabbitMQQueueReader:
    """Reads the given queues, and `celery_delayed_*`: there wait the jobs of quorum queues for their ETA."""

    def __init__(
        self, connection: Any, management: Management | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._management = management
        self._clock = clock
        self._channel: Any = None
        self._absent: dict[str, tuple[float, float]] = {}  # by queue: when to ask again, and the pause until then
        self._consumed: frozenset[str] = frozenset()

    def depths(self, names: Collection[str], consumed: Collection[str] | None = None) -> dict[str, QueueDepth]:
        """Return depth and consumers of each queue that exists; with the management API also its unacked messages."""
        if consumed is not None:
            self._ask_again_for(frozenset(consumed))
        last = self._read(_DELAYED[-1])
        delayed = _DELAYED if last is not None else ()
        depths = {name: depth for name in dict.fromkeys((*names, *delayed)) if (depth := self._read(name)) is not None}
        if self._management is None:
            return depths
        try:
            unacked = self._management.unacked()
        except (OSError, ValueError) as error:
            warn_limited(
                "management", "RabbitMQ's management API does not answer (%s: %s).", type(error).__name__, error
            )
            return depths
        return {name: replace(depth, unacked=unacked.get(name)) for name, depth in depths.items()}

    def _ask_again_for(self, consumed: frozenset[str]) -> None:
        """Ask at once for the queues that workers have begun to consume from: by now they exist, or may exist."""
        before, self._consumed = self._consumed, consumed
        if began := consumed - before:
            for name in (*began, _DELAYED[-1]):
                self._absent.pop(name, None)

    def _read(self, name: str) -> QueueDepth | None:
        ask_at, pause = self._absent.get(name, (0.0, _FIRST_PAUSE / 2))
        if self._clock() < ask_at:
            return None
        if self._channel is None:
            self._channel = self._connection.channel()
        try:
            reply = self._channel.queue_declare(queue=name, passive=True)
        except self._connection.channel_errors:  # absent, not permitted, or exclusive to another connection
            if not self._channel.is_open:  # py-amqp opens it again by itself
                self._channel = None
            pause = min(pause * 2, _MAX_DELAYED_PAUSE if name in _DELAYED else _MAX_PAUSE)
            self._absent[name] = (self._clock() + pause, pause)
            return None
        self._absent.pop(name, None)
        return QueueDepth(reply.message_count, reply.consumer_count)
