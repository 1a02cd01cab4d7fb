"""Deliveries in a real database, an endpoint, and senders as processes have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from sluice_agent.server.queries.webhook_deliveries import DeliveryRow, attempts_of, latest_deliveries
from sluice_agent.server.store import Store
from sluice_agent.server.webhooks.ledger import Delivery, Ended, Ledger, NewDelivery, add_delivery
from sluice_agent.server.webhooks.schedule import DeliveryState, Outcome
from sluice_agent.server.webhooks.sender import Pace, Post, Sender, post_over_http
from sluice_agent.server.webhooks.signing import decode_secret, signed_headers
from tests.support.webhook_receiver import SECRET, WebhookReceiver
from tests.unit.server.events import Clock


def sign(delivery: Delivery, timestamp: int, body: bytes) -> Mapping[str, str]:
    return signed_headers([decode_secret(SECRET)], delivery.id, timestamp, body)


class Outbox:
    """The deliveries of one database, with a clock that a test sets."""

    def __init__(self, database: Path | str) -> None:
        self.clock = Clock()
        self.store = Store(database, now=self.clock)
        self.ledger = Ledger(self.store.reading, self.store.writing, lambda: self.store.moment)

    def add(self, url: str, subject: str = "rule", *, allows_private: bool = True) -> str:
        """Add a delivery as whatever decides it does."""
        new = NewDelivery("alert", subject, "A_SECRET", url, '{"type": "ä"}', allows_private)
        with self.store.writing() as connection:
            return add_delivery(connection, new, self.store.moment)

    def sender(self, post: Post = post_over_http, *, is_alone: bool = True) -> Sender:
        """Return a new sender, as a new process has it."""
        return Sender(
            self.ledger, {"alert": sign}, lambda: self.store.moment, is_alone=is_alone, pace=Pace(poll=0.01),
            post=post, chance=lambda: 0.0,
        )  # fmt: skip

    def claim(self, *ids: str) -> list[Delivery]:
        """Claim deliveries as a sender does, those that are due."""
        turn = self.ledger.turn([], ["alert"], lambda due: [one for one in due if one.id in ids])
        return list(turn.claimed)

    def settle(self, delivery: Delivery) -> bool:
        """Record that a delivery was taken, and return whether that counts."""
        ended = Ended(delivery, Outcome(200, None, ""), DeliveryState.DELIVERED, 0, 0, self.store.moment)
        return self.ledger.turn([ended], ["alert"], lambda _: []).settled[0]

    def row(self, delivery: str) -> DeliveryRow:
        """Return a delivery."""
        with self.store.reading() as reader:
            return next(row for row in latest_deliveries(reader, 1_000) if row.id == delivery)

    def results(self, delivery: str) -> list[int | str | None]:
        """Return the status, or the error, of each attempt."""
        with self.store.reading() as reader:
            return [attempt.status or attempt.error for attempt in attempts_of(reader, delivery)]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "s.db")
    yield outbox
    outbox.store.close()


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()
    yield receiver
    receiver.release()
    receiver.down()


@pytest.fixture
def start(outbox: Outbox) -> Iterator[Callable[..., Sender]]:
    """Start a sender of the test's database; it ends with the test."""
    senders: list[Sender] = []

    def started(post: Post = post_over_http) -> Sender:
        senders.append(outbox.sender(post))
        senders[-1].start()
        return senders[-1]

    yield started
    for sender in senders:
        sender.close()
