"""The books of the durable queue: what is new, and what is to be acknowledged."""

from __future__ import annotations

from math import inf
from types import SimpleNamespace
from typing import Any

from celery import Celery

from sluice_agent.monitor.durable import Durable, DurableQueue


class Channel:
    """A channel that remembers what was acknowledged."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[int, bool]] = []

    def basic_ack(self, tag: int, multiple: bool) -> None:
        self.acknowledged.append((tag, multiple))


def durable() -> tuple[Durable, Channel]:
    made = Durable(Celery("app", set_as_current=False), DurableQueue("kept", 10, 60.0))
    made._channel = channel = Channel()
    return made, channel


def message(tag: int, body: bytes, *, redelivered: bool = False) -> Any:
    return SimpleNamespace(delivery_tag=tag, body=body, delivery_info={"redelivered": redelivered})


def test_nothing_is_acknowledged_before_it_is_taken() -> None:
    """An event that is acknowledged first is lost with the process."""
    subscription, channel = durable()
    marks = [subscription.token(message(tag, b"%d" % tag))[0] for tag in (1, 2, 3)]
    subscription.ack_through(inf)
    assert channel.acknowledged == []
    subscription.mark_processed(marks[0], 0)
    subscription.mark_processed(marks[1], 0)
    subscription.ack_through(inf)
    subscription.ack_through(inf)
    assert channel.acknowledged == [(2, True)]


def test_nothing_is_acknowledged_before_it_is_told() -> None:
    """What the observer holds back for a second is in no journal yet; messages are acknowledged in their order."""
    subscription, channel = durable()
    for tag, received_seq in ((1, 0), (2, 1), (3, 1), (4, 2)):
        subscription.mark_processed(subscription.token(message(tag, b"%d" % tag))[0], received_seq)
    subscription.ack_through(0)
    subscription.ack_through(1)
    subscription.ack_through(inf)
    assert channel.acknowledged == [(1, True), (3, True), (4, True)]


def test_what_was_taken_before_the_connection_went_is_not_new() -> None:
    """A task that is received twice has run twice: its events would be told under another id."""
    subscription, _ = durable()
    subscription.mark_processed(subscription.token(message(1, b"told"))[0], 0)
    subscription.token(message(2, b"untold"))
    subscription.connection_lost()
    assert not subscription.token(message(1, b"told", redelivered=True))[1]
    assert subscription.token(message(2, b"untold", redelivered=True))[1]
    assert subscription.token(message(3, b"told"))[1], "the same words again are another message"
    assert subscription.token(message(4, b"told", redelivered=True))[1], "one redelivery is expected, not any number"
