"""Which queue a message is in. A message says its exchange and its routing key; the app's queues say the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from celery import Celery

_DELAYED = "celery_delayed_"  # the exchanges in which RabbitMQ holds a job for a quorum queue until its ETA
_DELAY_BITS = 28  # words of a routing key that say, bit by bit, how many seconds


def queue_of(app: Celery, delivery: Mapping[str, Any] | None) -> str | None:
    """The queue that a message with this exchange and routing key is in, as the app's queues are bound."""
    if not delivery:
        return None
    exchange = delivery.get("exchange")
    name = getattr(exchange, "name", exchange)
    if not name:  # the default exchange: the routing key is the queue's name
        return delivery.get("routing_key") or None
    return _bound_queue(app, str(name), delivery.get("routing_key") or "")


@lru_cache(maxsize=1024)
def _bound_queue(app: Celery, exchange: str, routing_key: str) -> str:
    queues = app.amqp.queues
    if exchange.startswith(_DELAYED):  # its own routing key follows that of the delay; its exchange is not known here
        exchange, routing_key = "", routing_key.split(".", _DELAY_BITS)[-1]
    for name in sorted(queues, key=lambda name: name not in queues.consume_from):
        queue = queues[name]
        bindings = [queue, *(queue.bindings or ())]
        if any(_leads(exchange, routing_key, each.exchange, each.routing_key) for each in bindings):
            return str(name)
    return routing_key or exchange


def _leads(exchange: str, routing_key: str, bound: Any, pattern: str | None) -> bool:
    if bound is None or exchange not in ("", bound.name):
        return False
    if bound.type == "topic":
        return _topic(pattern or "").fullmatch(routing_key) is not None
    return bound.type in ("fanout", "headers") or pattern == routing_key


def _topic(pattern: str) -> re.Pattern[str]:
    """An AMQP topic: `*` is one word, `#` any number of them, with the dots between them."""
    words = [{"*": r"[^.]+", "#": "#"}.get(word, re.escape(word)) for word in pattern.split(".")]
    return re.compile(r"\.".join(words).replace(r"#\.", r"(.*\.)?").replace(r"\.#", r"(\..*)?").replace("#", ".*"))
