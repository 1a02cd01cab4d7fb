"""Deliveries in the database: what is to be sent, and what has become of it.

A delivery is claimed, in a transaction that is committed, before it is sent; the claim ends by itself. So after any end
of a process it is sent again, and while a process sends it no other one does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection, bindparam, func, or_, select, text, update

from sluice_agent.server.store.webhook_tables import webhook_attempt, webhook_delivery
from sluice_agent.server.webhooks.schedule import DeliveryState, Outcome

Transaction = Callable[[], AbstractContextManager[Connection]]

CLAIM = 60_000_000
"""Microseconds of a claim: three times as long as an exchange takes at most, for clocks that differ."""

KEPT = 30 * 86_400_000_000
"""Microseconds for which a delivery is kept after its end."""

MOST_KEPT = 10_000
"""Deliveries that have ended: of more, the oldest go, unless another number is given."""


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
    """A delivery that this process may send. `attempt` counts from 1 those whose end is known: however often a process
    is killed, none is given up by that."""

    id: str
    content: NewDelivery
    attempt: int
    claim: str


class Due(NamedTuple):
    """A delivery that is due since `due_at`."""

    id: str
    url: str
    due_at: int


Choose = Callable[[Sequence[Due]], Sequence[Due]]
"""Returns those deliveries that may begin now, of such as are due."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that has ended, and what follows. Times are microseconds since 1970."""

    delivery: Delivery
    outcome: Outcome
    state: DeliveryState
    due_at: int
    started_at: int
    ended_at: int


class Turn(NamedTuple):
    """What a turn has done. `settled` has of each attempt whether it counted: False if its claim had ended, and another
    process has taken the delivery."""

    settled: Sequence[bool]
    claimed: Sequence[Delivery]


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


def send_again(connection: Connection, delivery: str, url: str | None, now: int) -> bool:
    """Let a delivery be sent again from now on, with the same id and body and as many attempts as a new one, to `url`
    if that is not None. Return False if it is being sent at this moment."""
    values: dict[str, Any] = {"state": DeliveryState.PENDING.value, "attempts": 0, "due_at": now, "ended_at": None}
    if url is not None:
        values["url"] = url
    is_free = (webhook_delivery.c.id == delivery) & (webhook_delivery.c.claimed_until <= now)
    return bool(connection.execute(update(webhook_delivery).where(is_free).values(claim=None, **values)).rowcount)


class Ledger:
    """The deliveries of one database; `now` returns the present in microseconds since 1970.

    `most_kept` is how many of those that have ended are kept.
    """

    def __init__(
        self, reading: Transaction, writing: Transaction, now: Callable[[], int], most_kept: int = MOST_KEPT
    ) -> None:
        self._reading = reading
        self._writing = writing
        self._now = now
        self._most_kept = most_kept

    def first_due(self, kinds: Collection[str]) -> list[Due]:
        """Return of each URL the delivery of `kinds` that is due for the longest time, and that no process sends now.

        It takes as long as there are URLs, however many deliveries wait for one of them.
        """
        with self._reading() as reader:
            return _first_due(reader, kinds, self._now())

    def turn(self, ended: Sequence[Ended], kinds: Collection[str], choose: Choose) -> Turn:
        """Record attempts that have ended, and claim deliveries of `kinds` as long as `choose` takes some of those that
        are due: all in one transaction, as a commit costs more than what is in it."""
        with self._writing() as connection:
            settled = [_settle(connection, attempt) for attempt in ended]
            claimed: list[Delivery] = []
            now = self._now()
            while chosen := choose(_first_due(connection, kinds, now)):
                claimed += filter(None, (_claim(connection, due.id, now) for due in chosen))
        return Turn(settled, claimed)

    def end_claims(self) -> None:
        """End all claims: no other process uses the database, so those that claimed are gone."""
        is_claimed = webhook_delivery.c.claim.is_not(None)
        with self._writing() as connection:
            connection.execute(update(webhook_delivery).where(is_claimed).values(claim=None, claimed_until=0))

    def delete_old(self) -> None:
        """Delete deliveries that ended long ago, and those that are too many, with their attempts."""
        ended_at = webhook_delivery.c.ended_at
        ended = select(ended_at).where(ended_at.is_not(None)).order_by(ended_at.desc())
        newest_old = ended.offset(self._most_kept).limit(1).scalar_subquery()
        is_old = or_(ended_at < self._now() - KEPT, ended_at <= newest_old)
        with self._writing() as connection:
            old = select(webhook_delivery.c.id).where(is_old)
            connection.execute(webhook_attempt.delete().where(webhook_attempt.c.delivery.in_(old)))
            connection.execute(webhook_delivery.delete().where(is_old))


def _first_due(reader: Connection, kinds: Collection[str], now: int) -> list[Due]:
    return [Due(*row) for row in reader.execute(_FIRST_DUE, {"now": now, "kinds": list(kinds)})]


def _claim(writer: Connection, id_: str, now: int) -> Delivery | None:
    """Claim a delivery; None: another process has just claimed it."""
    values = {"delivery": id_, "now": now, "name": uuid4().hex, "until": now + CLAIM}
    row = writer.execute(_CLAIM, values).one_or_none()
    if row is None:
        return None
    content = NewDelivery(row.kind, row.subject, row.secret, row.url, row.body, row.allows_private)
    return Delivery(row.id, content, row.attempts + 1, row.claim)


def _settle(writer: Connection, ended: Ended) -> bool:
    """Record an attempt, and return whether it counts."""
    delivery, outcome = ended.delivery, ended.outcome
    values = {
        "of": delivery.id,
        "by": delivery.claim,
        "state": ended.state.value,
        "attempts": delivery.attempt,
        "due_at": ended.due_at,
        "ended_at": None if ended.state is DeliveryState.PENDING else ended.ended_at,
    }
    if not writer.execute(_SETTLE, values).rowcount:
        return False
    last = writer.scalar(_LAST_NUMBER, {"of": delivery.id})
    attempt = {
        "delivery": delivery.id,
        "number": max(delivery.attempt, (last or 0) + 1),
        "at": ended.started_at,
        "duration_ms": max(0, ended.ended_at - ended.started_at) // 1_000,
        "status": outcome.status,
        "error": outcome.kept_error,
    }
    writer.execute(_ATTEMPT, attempt)
    return True


def _query_of_first_due() -> Any:
    """Return the query of the first delivery to each URL: from one URL to the next, as an index has them."""
    is_pending = text(f"state = '{DeliveryState.PENDING.value}'")  # the condition of an index, in its words
    first = select(webhook_delivery.c.url).where(is_pending).order_by(webhook_delivery.c.url).limit(1)
    urls = select(first.scalar_subquery().label("url")).cte("urls", recursive=True)
    later = webhook_delivery.alias("later")
    following = select(later.c.url).where(is_pending, later.c.url > urls.c.url).order_by(later.c.url).limit(1)
    urls = urls.union_all(select(following.scalar_subquery()).where(urls.c.url.is_not(None)))
    other = webhook_delivery.alias("other")
    oldest = (
        select(other.c.id)
        .where(is_pending, other.c.url == urls.c.url, other.c.due_at <= _NOW, other.c.claimed_until <= _NOW)
        .where(other.c.kind.in_(bindparam("kinds", expanding=True)))
        .order_by(other.c.due_at)
        .limit(1)
        .scalar_subquery()
    )
    due = webhook_delivery.alias("due")
    return select(due.c.id, due.c.url, due.c.due_at).select_from(urls.join(due, due.c.id == oldest))


_NOW = bindparam("now", type_=webhook_delivery.c.due_at.type)
_FIRST_DUE = _query_of_first_due()
_CLAIM = (
    update(webhook_delivery)
    .where(
        webhook_delivery.c.id == bindparam("delivery"),
        webhook_delivery.c.state == DeliveryState.PENDING.value,
        webhook_delivery.c.due_at <= _NOW,
        webhook_delivery.c.claimed_until <= _NOW,
    )
    .values(claim=bindparam("name"), claimed_until=bindparam("until"))
    .returning(webhook_delivery)
)
_SETTLE = (
    update(webhook_delivery)
    .where(webhook_delivery.c.id == bindparam("of"), webhook_delivery.c.claim == bindparam("by"))
    .values(claim=None, claimed_until=0)
)
_ATTEMPT = webhook_attempt.insert()
_LAST_NUMBER = select(func.max(webhook_attempt.c.number)).where(webhook_attempt.c.delivery == bindparam("of"))
