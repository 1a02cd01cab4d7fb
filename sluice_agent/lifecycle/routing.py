"""Find the queue of a message: match its exchange and routing key with the bindings of queues, as AMQP does."""

from __future__ import annotations

import re
from functools import lru_cache

DELAYED = "celery_delayed_"  # the exchanges in which RabbitMQ holds a job for a quorum queue until its ETA
_DELAY_BITS = 28  # words at the start of a routing key: the bits of the delay in seconds


def strip_delay(exchange: str, routing_key: str) -> tuple[str, str]:
    """Return where a message goes after its delay: its exchange, "" where that is unknown, and its own routing key."""
    if exchange.startswith(DELAYED):
        return "", routing_key.split(".", _DELAY_BITS)[-1]
    return exchange, routing_key


def binding_matches(exchange: str, routing_key: str, bound: str, kind: str, pattern: str) -> bool:
    """Return whether a binding to the exchange `bound`, of this kind, takes a message; an `exchange` of "" is any."""
    if exchange not in ("", bound):
        return False
    if kind == "topic":
        return _topic(pattern).fullmatch(routing_key) is not None
    return kind in ("fanout", "headers") or pattern == routing_key


@lru_cache(maxsize=1024)
def _topic(pattern: str) -> re.Pattern[str]:
    """Return the pattern of an AMQP topic: `*` is one word, `#` any number of them, with the dots between them."""
    words = [{"*": r"[^.]+", "#": "#"}.get(word, re.escape(word)) for word in pattern.split(".")]
    return re.compile(r"\.".join(words).replace(r"#\.", r"(.*\.)?").replace(r"\.#", r"(\..*)?").replace("#", ".*"))
