"""Which queue a task is in: what workers say of the queues that they take from, and how those are bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from sys import intern
from typing import Any

from sluice_agent.monitor.parsing import get_text
from sluice_agent.routing import binding_matches, strip_delay

_MOST = 10_000  # queues, and places that messages are sent to, that are remembered
_Binding = tuple[str, str, str]


class Bindings:
    """The queues of a cluster. An event names one, and names the default queue where the task went elsewhere."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        """All queues that were ever seen, up to a limit."""
        self._bound: dict[str, tuple[_Binding, ...]] = {}
        self._found: dict[tuple[str, str], str | None] = {}

    def learn(self, queue: Mapping[str, Any]) -> str | None:
        """A queue as `inspect active_queues` describes it; returns its name."""
        name = self._noted(get_text(queue, "name"))
        if name is None:
            return None
        bindings = queue.get("bindings")
        bound = [queue, *bindings] if isinstance(bindings, list) else [queue]
        found = tuple(binding for each in bound if isinstance(each, Mapping) for binding in _binding(each))
        if self._bound.get(name, ()) != found and len(self._bound) < _MOST:
            self._bound[name] = found
            self._found.clear()
        return name

    def queue_of(self, delivery: Mapping[str, Any]) -> str | None:
        """The queue that an event, or what a worker says of a delivery, leads to or at least names."""
        exchange, routing_key = delivery.get("exchange"), get_text(delivery, "routing_key")
        if not isinstance(exchange, str) or routing_key is None:
            return self._noted(get_text(delivery, "queue"))
        if not exchange:  # the default exchange: the routing key is the queue's name
            return self._noted(routing_key)
        return self._led_to(exchange, routing_key) or self._noted(get_text(delivery, "queue"))

    def is_sure_of(self, delivery: Mapping[str, Any]) -> bool:
        """Whether `queue_of` is where the message was put, and not only what its producer names."""
        exchange, routing_key = delivery.get("exchange"), get_text(delivery, "routing_key")
        if not isinstance(exchange, str) or routing_key is None:
            return False
        return (
            not exchange
            or routing_key == get_text(delivery, "queue")
            or self._led_to(exchange, routing_key) is not None
        )

    def _led_to(self, exchange: str, routing_key: str) -> str | None:
        place = exchange, routing_key
        if place not in self._found:
            if len(self._found) >= _MOST:
                self._found.clear()
            sent_to = strip_delay(exchange, routing_key)
            found = (
                name
                for name, bindings in self._bound.items()
                if any(binding_matches(*sent_to, *binding) for binding in bindings)
            )
            self._found[place] = next(found, None)
        return self._found[place]

    def _noted(self, name: str | None) -> str | None:
        if name is None:
            return None
        name = intern(name)
        if len(self.names) < _MOST:
            self.names.add(name)
        return name


def _binding(bound: Mapping[str, Any]) -> Iterator[_Binding]:
    exchange = bound.get("exchange")
    if isinstance(exchange, Mapping) and (name := get_text(exchange, "name")) is not None:
        yield name, get_text(exchange, "type") or "direct", get_text(bound, "routing_key") or ""
