"""The webhooks of runs on their way: signed by the secrets of their jobs, with the rules of this server's addresses."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sluice_agent.jobs.definitions.secrets import signing_secrets
from sluice_agent.jobs.signatures import webhook_headers
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.jobs.webhooks.outbox import KINDS
from sluice_agent.server.webhooks.ledger import Delivery, Ledger
from sluice_agent.server.webhooks.sender import Pace, Sender, post_over_http

_MOST_KEPT = 100_000  # deliveries that have ended
_PACE = Pace(poll=0.5, at_once=16, to_one=4)


def webhook_sender(store: JobsStore, *, allows_private: bool, pace: Pace = _PACE) -> Sender:
    """Return what sends the webhooks of the runs in `store`. `allows_private`: also to private addresses."""
    ledger = Ledger(store.reading, store.writing, lambda: store.moment, _MOST_KEPT)
    return Sender(
        ledger,
        dict.fromkeys(KINDS.values(), partial(_headers, store)),
        lambda: store.moment,
        is_alone=not store.is_shared,
        pace=pace,
        post=partial(post_over_http, allows_private=allows_private),
    )


def _headers(store: JobsStore, delivery: Delivery, timestamp: int, body: bytes) -> Mapping[str, str]:
    with store.reading() as reader:
        secrets = signing_secrets(reader, delivery.content.secret, store.moment)
    return {
        "X-Run-ID": delivery.content.subject,
        "X-Strait-Delivery-ID": delivery.id,
        "X-Strait-Attempt": str(delivery.attempt),
        **webhook_headers(secrets, delivery.id, timestamp, body),
    }
