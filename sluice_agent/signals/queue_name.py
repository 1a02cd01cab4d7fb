"""Which queue a message is in. A message says its exchange and its routing key; the app's queues say the rest.

An app that has not read its settings is not asked: Celery would import what the host may never import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from celery import Celery

from sluice_agent.routing import binding_matches, strip_delay

_REMEMBERED = 1024  # exchanges and routing keys of one app whose queue is known; a topic's keys may be endless

_found: WeakKeyDictionary[Celery, dict[tuple[str, str], str]] = WeakKeyDictionary()
"""The queues that were found, by app: one that its host lets go of is not kept."""


def queue_of(app: Celery, delivery: Mapping[str, Any] | None) -> str | None:
    """The queue that a message with this exchange and routing key is in, as the app's queues are bound."""
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
    found = _found.setdefault(app, {})
    place = str(name), routing_key
    queue = found.get(place)
    if queue is None:
        if len(found) >= _REMEMBERED:
            found.clear()
        queue = found[place] = _bound_queue(app, *place)
    return queue


def _bound_queue(app: Celery, exchange: str, routing_key: str) -> str:
    queues = app.amqp.queues
    exchange, routing_key = strip_delay(exchange, routing_key)
    for name in sorted(queues, key=lambda name: name not in queues.consume_from):
        queue = queues[name]
        bindings = [queue, *(queue.bindings or ())]
        bound = [(each.exchange, each.routing_key or "") for each in bindings if each.exchange is not None]
        if any(binding_matches(exchange, routing_key, place.name, place.type, pattern) for place, pattern in bound):
            return str(name)
    return routing_key or exchange
