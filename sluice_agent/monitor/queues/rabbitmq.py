"""Depths in RabbitMQ: a passive declare asks for a queue without making it.

Asking for a queue that is not there closes the channel, and the broker logs it: so the channel is the gauge's own, and
an absent queue is asked for less and less often, until a worker begins to take from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from sluice_agent.log import complain
from sluice_agent.monitor.queues.depth import Depth
from sluice_agent.monitor.queues.management import Management

_ABSENT_FIRST, _ABSENT_LAST = 2.0, 60.0  # seconds until an absent queue is asked for again, and at the most
_DELAYED_LAST = 900.0  # the same for those of delayed delivery, which most clusters never have
_DELAYED = tuple(f"celery_delayed_{level}" for level in range(28))  # kombu's native_delayed_delivery makes them as one


class RabbitMQGauge:
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

    def depths(self, names: Collection[str], taken_from: Collection[str] | None = None) -> dict[str, Depth]:
        """The depth and the consumers of each queue that exists; with the management API also what is not acked."""
        if taken_from is not None:
            self._ask_again_for(frozenset(taken_from))
        last = self._told(_DELAYED[-1])
        delayed = _DELAYED if last is not None else ()
        told = {name: depth for name in dict.fromkeys((*names, *delayed)) if (depth := self._told(name)) is not None}
        if self._management is None:
            return told
        try:
            unacked = self._management.unacked()
        except (OSError, ValueError) as error:
            complain("management", "RabbitMQ's management API does not answer (%s: %s).", type(error).__name__, error)
            return told
        return {name: replace(depth, unacked=unacked.get(name)) for name, depth in told.items()}

    def _ask_again_for(self, taken_from: frozenset[str]) -> None:
        """Ask at once for the queues that workers have begun to take from: they are there by now, or may be."""
        before, self._taken_from = self._taken_from, taken_from
        if began := taken_from - before:
            for name in (*began, _DELAYED[-1]):
                self._absent.pop(name, None)

    def _told(self, name: str) -> Depth | None:
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
        return Depth(answer.message_count, answer.consumer_count)
