"""How many workers take from each queue, by asking all of them: Redis can't tell, and no broker lists its queues."""

from __future__ import annotations

from collections import Counter
from typing import Any

from celery import Celery
from celery.app.control import Control

_PATIENCE = 1.0  # seconds without an answer, after which the ones that have come are all


def consumers(app: Celery, connection: Any) -> Counter[str] | None:
    """The number of workers by queue, from their answers to `active_queues`; None where none answered.

    Uses nothing of the app's that another thread may hold: neither its pools nor its mailbox.
    """
    if not app.conf.worker_enable_remote_control or "fanout" not in connection.transport.implements.exchange_type:
        return None
    with connection.clone() as own:  # kombu's Redis transport never forgets a channel of a connection that lasts
        mailbox = Control(app).mailbox(own)
        del mailbox.producer_pool
        replies = mailbox.multi_call("active_queues", timeout=_PATIENCE, channel=own.default_channel)
    answers = [queues for reply in replies or () for queues in reply.values() if isinstance(queues, list)]
    return Counter(queue["name"] for queues in answers for queue in queues) if answers else None
