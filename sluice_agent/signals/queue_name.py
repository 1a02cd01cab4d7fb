"""The queue that a message is in, from its exchange, its routing key and the bindings of the app's queues.

The queues of an app that has not read its settings are not used: Celery would import modules that the host may never
import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery

from sluice_agent.lifecycle.routing import binding_matches, strip_delay

_CACHE_SIZE = 1024  # exchanges and routing keys of one app; a topic may have any number of keys

_queues_by_app: WeakKeyDictionary[Celery, dict[tuple[str, str], str]] = WeakKeyDictionary()
"""The queue of each exchange and routing key, by app. The reference is weak: the host may discard an app."""


def queue_of(app: Celery, delivery: Mapping[str, Any] | None) -> str | None:
    """Return the queue that a message with this exchange and routing key is in, by the bindings of the app's queues."""
    if not isinstance(delivery, Mapping):
        return None
    exchange, routing_key = delivery.get("exchange"), delivery.get("routing_key")
    if not isinstance(routing_key, str):  # another client may write anything
        routing_key = ""
    name = getattr(exchange, "name", exchange)
    if not name:  # the default exchange: the routing key is the queue's name
        return routing_key or None
    if not app.configured:
        return routing_key or str(name)
    cache = _queues_by_app.setdefault(app, {})
    destination = str(name), routing_key
    queue = cache.get(destination)
    if queue is None:
        if len(cache) >= _CACHE_SIZE:
            cache.clear()
        queue = cache[destination] = _bound_queue(app, *destination)
    return queue


def _bound_queue(app: Celery, exchange: str, routing_key: str) -> str:
    queues = app.amqp.queues
    exchange, routing_key = strip_delay(exchange, routing_key)
    for name in sorted(queues, key=lambda name: name not in queues.consume_from):
        queue = queues[name]
        bindings = [queue, *(queue.bindings or ())]
        bound = [(binding.exchange, binding.routing_key or "") for binding in bindings if binding.exchange is not None]
        if any(binding_matches(exchange, routing_key, source.name, source.type, pattern) for source, pattern in bound):
            return str(name)
    return routing_key or exchange
