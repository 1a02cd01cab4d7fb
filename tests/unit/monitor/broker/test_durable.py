"""The bookkeeping of the durable queue: which messages are new, and which are to be acknowledged."""

from __future__ import annotations

from math import inf
from types import SimpleNamespace
from typing import Any

from celery import Celery

from sluice_agent.monitor.broker.durable import Durable, DurableQueue


class Channel:
    """A channel that records acknowledgements."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[int, bool]] = []

    def basic_ack(self, tag: int, multiple: bool) -> None:
        self.acknowledged.append((tag, multiple))


def durable() -> tuple[Durable, Channel]:
    subscription = Durable(Celery("app", set_as_current=False), DurableQueue("kept", 10, 60.0))
    subscription._channel = channel = Channel()
    return subscription, channel


def message(tag: int, body: bytes, *, redelivered: bool = False) -> Any:
    return SimpleNamespace(delivery_tag=tag, body=body, delivery_info={"redelivered": redelivered})


def test_nothing_is_acknowledged_before_it_is_processed() -> None:
    """An event that is acknowledged first would be missing once the process has died."""
    subscription, channel = durable()
    tokens = [subscription.token(message(tag, b"%d" % tag))[0] for tag in (1, 2, 3)]
    subscription.ack_through(inf)
    assert channel.acknowledged == []
    subscription.mark_processed(tokens[0], 0)
    subscription.mark_processed(tokens[1], 0)
    subscription.ack_through(inf)
    subscription.ack_through(inf)
    assert channel.acknowledged == [(2, True)]


def test_nothing_is_acknowledged_before_it_is_emitted() -> None:
    """An event that the tracker holds back for a second is in no journal yet. Messages are acknowledged in order."""
    subscription, channel = durable()
    for tag, received_seq in ((1, 0), (2, 1), (3, 1), (4, 2)):
        subscription.mark_processed(subscription.token(message(tag, b"%d" % tag))[0], received_seq)
    subscription.ack_through(0)
    subscription.ack_through(1)
    subscription.ack_through(inf)
    assert channel.acknowledged == [(1, True), (3, True), (4, True)]


def test_a_message_processed_before_the_connection_was_lost_is_not_new() -> None:
    """A task that is received twice has run twice: its events would be emitted under another id."""
    subscription, _ = durable()
    subscription.mark_processed(subscription.token(message(1, b"processed"))[0], 0)
    subscription.token(message(2, b"unprocessed"))
    subscription.connection_lost()
    assert not subscription.token(message(1, b"processed", redelivered=True))[1]
    assert subscription.token(message(2, b"unprocessed", redelivered=True))[1]
    assert subscription.token(message(3, b"processed"))[1], "an equal body is another message"
    assert subscription.token(message(4, b"processed", redelivered=True))[1], "only one redelivery is expected"
