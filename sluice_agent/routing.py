"""Which queue a message goes to: an exchange and a routing key, and the bindings of queues, as AMQP has them."""

from __future__ import annotations

import re
from functools import lru_cache

DELAYED = "celery_delayed_"  # the exchanges in which RabbitMQ holds a job for a quorum queue until its ETA
_DELAY_BITS = 28  # words of a routing key that say, bit by bit, how many seconds


def strip_delay(exchange: str, routing_key: str) -> tuple[str, str]:
    """Where a message goes when its delay is over: to an exchange that nobody knows, "", by its own key."""
    if exchange.startswith(DELAYED):
        return "", routing_key.split(".", _DELAY_BITS)[-1]
    return exchange, routing_key


def binding_matches(exchange: str, routing_key: str, bound: str, kind: str, pattern: str) -> bool:
    """Whether a binding to the exchange `bound`, of this kind, takes a message; an `exchange` of "" may be any."""
    if exchange not in ("", bound):
        return False
    if kind == "topic":
        return _topic(pattern).fullmatch(routing_key) is not None
    return kind in ("fanout", "headers") or pattern == routing_key


@lru_cache(maxsize=1024)
def _topic(pattern: str) -> re.Pattern[str]:
    """An AMQP topic: `*` is one word, `#` any number of them, with the dots between them."""
    words = [{"*": r"[^.]+", "#": "#"}.get(word, re.escape(word)) for word in pattern.split(".")]
    return re.compile(r"\.".join(words).replace(r"#\.", r"(.*\.)?").replace(r"\.#", r"(\..*)?").replace("#", ".*"))
