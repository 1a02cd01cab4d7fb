"""Deliveries in the database: what is to be sent, and what has become of it.

A delivery is claimed, in a transaction that is committed, before it is sent; the claim ends by itself. So after any end
of a process it is sent again, and while a process sends it no other one does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import Connection, or_, select, update

from sluice_agent.server.store.webhook_tables import webhook_attempt, webhook_delivery
from sluice_agent.server.webhooks.schedule import DeliveryState, Outcome

Transaction = Callable[[], AbstractContextManager[Connection]]

CLAIM = 60_000_000
"""Microseconds of a claim: three times as long as an exchange takes at most, for clocks that differ."""

KEPT = 30 * 86_400_000_000
"""Microseconds for which a delivery is kept after its end."""

MOST_KEPT = 10_000
"""Deliveries that have ended: of more, the oldest go."""


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What is sent to a URL. `kind` and `secret`, a name, find the key of its signature; `subject` is what it is about.

    `allows_private` permits private addresses.
    """

    kind: str
    subject: str
    secret: str
    url: str
    body: str
    allows_private: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that this process may send. `attempt` counts from 1."""

    id: str
    content: NewDelivery
    attempt: int
    claim: str


def add_delivery(connection: Connection, new: NewDelivery, now: int) -> str:
    """Add a delivery in the transaction of `connection`, at `now` in microseconds since 1970, and return its id."""
    delivery_id = f"msg_{uuid4().hex}"
    connection.execute(
        webhook_delivery.insert().values(
            id=delivery_id,
            kind=new.kind,
            subject=new.subject,
            secret=new.secret,
            url=new.url,
            allows_private=new.allows_private,
            body=new.body,
            created_at=now,
            state=DeliveryState.PENDING.value,
            attempts=0,
            due_at=now,
            claimed_until=0,
        )
    )
    return delivery_id


class Ledger:
    """The deliveries of one database; `now` returns the present in microseconds since 1970."""

    def __init__(self, reading: Transaction, writing: Transaction, now: Callable[[], int]) -> None:
        self._reading = reading
        self._writing = writing
        self._now = now

    def claim_next(self, kinds: Collection[str], busy: Collection[str] = ()) -> Delivery | None:
        """Claim the delivery of `kinds` that is due for the longest time, to none of the URLs `busy`; None: there is
        none."""
        now = self._now()
        is_due = (
            (webhook_delivery.c.state == DeliveryState.PENDING.value)
            & (webhook_delivery.c.due_at <= now)
            & (webhook_delivery.c.claimed_until <= now)
            & webhook_delivery.c.kind.in_(kinds)
        )
        next_due = select(webhook_delivery).where(is_due, webhook_delivery.c.url.not_in(busy))
        with self._reading() as reader:
            row = reader.execute(next_due.order_by(webhook_delivery.c.due_at).limit(1)).one_or_none()
        if row is None:
            return None
        claim, attempt = uuid4().hex, row.attempts + 1
        is_same = (webhook_delivery.c.id == row.id) & (webhook_delivery.c.attempts == row.attempts) & is_due
        values = {"claim": claim, "claimed_until": now + CLAIM, "attempts": attempt}
        with self._writing() as connection:
            if not connection.execute(update(webhook_delivery).where(is_same).values(values)).rowcount:
                return None  # another process was faster
        content = NewDelivery(row.kind, row.subject, row.secret, row.url, row.body, row.allows_private)
        return Delivery(row.id, content, attempt, claim)

    def settle(self, delivery: Delivery, outcome: Outcome, state: DeliveryState, due_at: int, started_at: int) -> bool:
        """Record an attempt that began at `started_at`, and what follows. Return False if the claim has ended and
        another process has taken the delivery."""
        now = self._now()
        is_claimed = (webhook_delivery.c.id == delivery.id) & (webhook_delivery.c.claim == delivery.claim)
        values = {
            "state": state.value,
            "due_at": due_at,
            "claim": None,
            "claimed_until": 0,
            "ended_at": None if state is DeliveryState.PENDING else now,
        }
        attempt = {
            "delivery": delivery.id,
            "number": delivery.attempt,
            "at": started_at,
            "duration_ms": max(0, now - started_at) // 1_000,
            "status": outcome.status,
            "error": outcome.kept_error,
        }
        with self._writing() as connection:
            if not connection.execute(update(webhook_delivery).where(is_claimed).values(values)).rowcount:
                return False
            connection.execute(webhook_attempt.insert().values(attempt))
        return True

    def end_claims(self) -> None:
        """End all claims: no other process uses the database, so those that claimed are gone."""
        is_claimed = webhook_delivery.c.claim.is_not(None)
        with self._writing() as connection:
            connection.execute(update(webhook_delivery).where(is_claimed).values(claim=None, claimed_until=0))

    def delete_old(self) -> None:
        """Delete deliveries that ended long ago, and those beyond `MOST_KEPT`, with their attempts."""
        ended_at = webhook_delivery.c.ended_at
        newest = select(ended_at).where(ended_at.is_not(None)).order_by(ended_at.desc()).offset(MOST_KEPT).limit(1)
        is_old = or_(ended_at < self._now() - KEPT, ended_at <= newest.scalar_subquery())
        with self._writing() as connection:
            old = select(webhook_delivery.c.id).where(is_old)
            connection.execute(webhook_attempt.delete().where(webhook_attempt.c.delivery.in_(old)))
            connection.execute(webhook_delivery.delete().where(is_old))
