"""The queue of a task, by the queues that workers report to consume from and by their bindings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from sys import intern
from typing import Any

from sluice_agent.lifecycle.routing import binding_matches, strip_delay
from sluice_agent.monitor.tracker.parsing import get_text

_MAX_REMEMBERED = 10_000  # queues, and routes (an exchange and a routing key), that are remembered
_Binding = tuple[str, str, str]


class Bindings:
    """The queues of a cluster. An event names its task's queue, or the default one where the task went elsewhere."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        """All queues ever seen, up to a limit."""
        self._bound: dict[str, tuple[_Binding, ...]] = {}
        self._queue_by_route: dict[tuple[str, str], str | None] = {}

    def learn(self, queue: Mapping[str, Any]) -> str | None:
        """Record a queue as `inspect active_queues` describes it; return its name."""
        name = self._remembered(get_text(queue, "name"))
        if name is None:
            return None
        bindings = queue.get("bindings")
        entries = [queue, *bindings] if isinstance(bindings, list) else [queue]
        bound = tuple(binding for entry in entries if isinstance(entry, Mapping) for binding in _binding(entry))
        if self._bound.get(name, ()) != bound and len(self._bound) < _MAX_REMEMBERED:
            self._bound[name] = bound
            self._queue_by_route.clear()
        return name

    def learn_queue_of(self, delivery: Mapping[str, Any]) -> str | None:
        """Record and return the queue that an event's or reply's delivery was routed to, else the one that it names."""
        exchange, routing_key = delivery.get("exchange"), get_text(delivery, "routing_key")
        if not isinstance(exchange, str) or routing_key is None:
            return self._remembered(get_text(delivery, "queue"))
        if not exchange:  # the default exchange: the routing key is the queue's name
            return self._remembered(routing_key)
        return self._routed_to(exchange, routing_key) or self._remembered(get_text(delivery, "queue"))

    def is_sure_of(self, delivery: Mapping[str, Any]) -> bool:
        """Return whether `learn_queue_of` is where the broker put the message, and not only what its producer names."""
        exchange, routing_key = delivery.get("exchange"), get_text(delivery, "routing_key")
        if not isinstance(exchange, str) or routing_key is None:
            return False
        return (
            not exchange
            or routing_key == get_text(delivery, "queue")
            or self._routed_to(exchange, routing_key) is not None
        )

    def _routed_to(self, exchange: str, routing_key: str) -> str | None:
        route = exchange, routing_key
        if route not in self._queue_by_route:
            if len(self._queue_by_route) >= _MAX_REMEMBERED:
                self._queue_by_route.clear()
            target = strip_delay(exchange, routing_key)
            names = (
                name
                for name, bindings in self._bound.items()
                if any(binding_matches(*target, *binding) for binding in bindings)
            )
            self._queue_by_route[route] = next(names, None)
        return self._queue_by_route[route]

    def _remembered(self, name: str | None) -> str | None:
        if name is None:
            return None
        name = intern(name)
        if len(self.names) < _MAX_REMEMBERED:
            self.names.add(name)
        return name


def _binding(entry: Mapping[str, Any]) -> Iterator[_Binding]:
    exchange = entry.get("exchange")
    if isinstance(exchange, Mapping) and (name := get_text(exchange, "name")) is not None:
        yield name, get_text(exchange, "type") or "direct", get_text(entry, "routing_key") or ""
