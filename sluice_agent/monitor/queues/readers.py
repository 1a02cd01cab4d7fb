"""What is known of a queue's depth, and one reader for each kind of broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sluice_agent.log import complain
from sluice_agent.monitor.queues.management import Management


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """One queue at one moment.

    `ready` jobs wait in it for a worker. `consumers` take from it, and `unacked` jobs are with them; None where nobody
    can tell.
    """

    ready: int
    consumers: int | None = None
    unacked: int | None = None


class QueueReader(Protocol):
    """Asks one kind of broker, over a connection that is the sampler's own. Raises what the connection raises."""

    def depths(self, names: Collection[str], taken_from: Collection[str] | None = None) -> dict[str, QueueDepth]:
        """Those of `names` that exist, and what the broker has found to be theirs as well: see each gauge.

        Workers take from `taken_from`, so those exist; None: nobody has looked who takes from what.
        """
        ...


class VirtualQueueReader:
    """Tells the queues that were asked for, as kombu's channel counts them. Such brokers don't know their consumers."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._channel = connection.channel()

    def depths(self, names: Collection[str], taken_from: Collection[str] | None = None) -> dict[str, QueueDepth]:  # noqa: ARG002 (Gauge's)
        """What each queue that exists holds."""
        found = {}
        for name in names:
            try:
                found[name] = QueueDepth(self._channel.queue_declare(queue=name, passive=True).message_count)
            except self._connection.channel_errors:  # it is not there
                continue
        return found


_BINDINGS_LAST = 60.0  # seconds: queues that somebody has bound meanwhile are found within a minute


class RedisQueueReader:
    """Tells the queues that were asked for, and those that workers have bound to the same exchanges."""

    def __init__(self, channel: Any, exchanges: Iterable[str]) -> None:
        self._channel = channel
        self._exchanges = sorted(set(exchanges))
        self._bound: set[str] = set()
        self._looked = -_BINDINGS_LAST

    def depths(self, names: Collection[str], taken_from: Collection[str] | None = None) -> dict[str, QueueDepth]:  # noqa: ARG002 (Gauge's)
        """The depth of each queue, those that were found by their bindings too. A queue that is empty has no key."""
        self._look_at_bindings()
        every = sorted({*names, *self._bound})
        keys = [(name, self._channel._q_for_pri(name, step)) for name in every for step in self._channel.priority_steps]
        ready = dict.fromkeys(every, 0)
        with self._channel.client.pipeline(transaction=False) as pipe:  # no transaction: a cluster has none
            for _, key in dict.fromkeys(keys):
                pipe.llen(key)
            lengths = pipe.execute()
        for (name, _), length in zip(dict.fromkeys(keys), lengths, strict=True):
            ready[name] += length
        return {name: QueueDepth(length) for name, length in ready.items()}

    def _look_at_bindings(self) -> None:
        if time.monotonic() - self._looked < _BINDINGS_LAST:
            return
        self._bound = {str(row[2]) for exchange in self._exchanges for row in self._channel.get_table(exchange)}
        self._looked = time.monotonic()


_ABSENT_FIRST, _ABSENT_LAST = 2.0, 60.0  # seconds until an absent queue is asked for again, and at the most
_DELAYED_LAST = 900.0  # the same for those of delayed delivery, which most clusters never have
_DELAYED = tuple(f"celery_delayed_{level}" for level in range(28))  # kombu's native_delayed_delivery makes them as one


class RabbitMQQueueReader:
    """Tells the queues that were asked for, and `celery_delayed_*`: what waits there for its ETA, for quorum queues."""

    def __init__(
        self, connection: Any, management: Management | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connection = connection
        self._management = management
        self._clock = clock
        self._channel: Any = None
        self._absent: dict[str, tuple[float, float]] = {}  # when to ask again, and how long that was put off
        self._taken_from: frozenset[str] = frozenset()

    def depths(self, names: Collection[str], taken_from: Collection[str] | None = None) -> dict[str, QueueDepth]:
        """The depth and the consumers of each queue that exists; with the management API also what is not acked."""
        if taken_from is not None:
            self._ask_again_for(frozenset(taken_from))
        last = self._read(_DELAYED[-1])
        delayed = _DELAYED if last is not None else ()
        depths = {name: depth for name in dict.fromkeys((*names, *delayed)) if (depth := self._read(name)) is not None}
        if self._management is None:
            return depths
        try:
            unacked = self._management.unacked()
        except (OSError, ValueError) as error:
            complain("management", "RabbitMQ's management API does not answer (%s: %s).", type(error).__name__, error)
            return depths
        return {name: replace(depth, unacked=unacked.get(name)) for name, depth in depths.items()}

    def _ask_again_for(self, taken_from: frozenset[str]) -> None:
        """Ask at once for the queues that workers have begun to take from: they are there by now, or may be."""
        before, self._taken_from = self._taken_from, taken_from
        if began := taken_from - before:
            for name in (*began, _DELAYED[-1]):
                self._absent.pop(name, None)

    def _read(self, name: str) -> QueueDepth | None:
        until, put_off = self._absent.get(name, (0.0, _ABSENT_FIRST / 2))
        if self._clock() < until:
            return None
        if self._channel is None:
            self._channel = self._connection.channel()
        try:
            answer = self._channel.queue_declare(queue=name, passive=True)
        except self._connection.channel_errors:  # not there, not ours to see, or another connection's alone
            if not self._channel.is_open:  # py-amqp opens it again by itself
                self._channel = None
            put_off = min(put_off * 2, _DELAYED_LAST if name in _DELAYED else _ABSENT_LAST)
            self._absent[name] = (self._clock() + put_off, put_off)
            return None
        self._absent.pop(name, None)
        return QueueDepth(answer.message_count, answer.consumer_count)
