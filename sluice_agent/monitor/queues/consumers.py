"""How many workers take from each queue, by asking all of them: Redis can't tell, and no broker lists its queues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from celery.app.control import Control

_PATIENCE = 1.0  # seconds without an answer, after which the ones that have come are all


@dataclass(frozen=True, slots=True)
class Consumers:
    """How many workers take from each queue, of those that are known; `are_all` says whether nobody is missing."""

    by_queue: Mapping[str, int] = field(default_factory=dict)
    are_all: bool = False

    def of(self, queue: str) -> int | None:
        """Their number; None where it is not known. That nobody takes from a queue is known only where all are."""
        return self.by_queue.get(queue, 0 if self.are_all else None)


def consumers(app: Celery, connection: Any) -> Consumers:
    """Who takes from which queue, from the workers' answers to `active_queues`; where none answered, nobody knows.

    Uses nothing of the app's that another thread may hold: neither its pools nor its mailbox.
    """
    if not app.conf.worker_enable_remote_control or "fanout" not in connection.transport.implements.exchange_type:
        return Consumers()
    with connection.clone() as own:  # kombu's Redis transport never forgets a channel of a connection that lasts
        mailbox = Control(app).mailbox(own)
        mailbox.producer_pool = None  # else the app's own is asked for, and a connection of it opened
        replies = mailbox.multi_call("active_queues", timeout=_PATIENCE, channel=own.default_channel)
    return counted(replies or ())


def counted(replies: Iterable[Any]) -> Consumers:
    """The consumers in the workers' answers, of which each names one worker."""
    said = [queues for reply in replies if isinstance(reply, dict) for queues in reply.values()]
    answers = [queues for queues in said if isinstance(queues, list)]
    names = [queue.get("name") for queues in answers for queue in queues if isinstance(queue, dict)]
    return Consumers(Counter(name for name in names if isinstance(name, str)), are_all=bool(answers))
