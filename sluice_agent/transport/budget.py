"""A day's budget of events: what goes out as it runs out. The day is UTC's, as the endpoint's limit is.

Heartbeats thin out first, then queue snapshots, then repeated progress: each may only use its share of what the day so
far allows, so that there is something left for the rest of it. What happens to jobs goes out until the budget is gone,
and then waits for the next day: the budget drops none of it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from enum import Enum

from sluice_agent.transport.cursor import Cursor

_HEAD_START = 0.1  # of its share that a kind may use as the day begins: a small worker is never thinned


class Kind(Enum):
    """A kind of event: the reason under which it is dropped, and its share of the budget."""

    HEARTBEAT = "budget_heartbeat", 0.6
    QUEUE = "budget_queue", 0.75
    PROGRESS = "budget_progress", 0.9
    TRANSITION = "", 1.0

    def __init__(self, reason: str, share: float) -> None:
        self.reason = reason
        self.share = share


def kind_of(line: bytes) -> Kind:
    """What kind of event a line of the journal is, by its first bytes. Busy and idle say no more than a heartbeat."""
    if line.startswith(b'{"type":"worker_heartbeat"'):
        return Kind.HEARTBEAT
    if line.startswith(b'{"type":"queue_snapshot"'):
        return Kind.QUEUE
    if line.startswith(b'{"type":"worker_state_change"'):
        return Kind.HEARTBEAT if b'"state":"busy"' in line or b'"state":"idle"' in line else Kind.TRANSITION
    return Kind.PROGRESS if b'"celeryState":"PROGRESS"' in line else Kind.TRANSITION


def may_go(spent: int, budget: int, fraction: float, kind: Kind) -> bool:
    """Whether an event of `kind` goes out, when `fraction` (0 to 1) of the day is over and `spent` of `budget` is gone.

    A transition goes while there is any budget; False means that it waits. For the other kinds it means that it is
    dropped.
    """
    if kind is Kind.TRANSITION:
        return spent < budget
    return spent < budget * kind.share * (_HEAD_START + (1 - _HEAD_START) * fraction)


def thin(lines: list[bytes], spent: int, budget: int, fraction: float) -> tuple[list[bytes], Counter[str]]:
    """The lines that go out, or wait, and how many of the others are dropped, by reason."""
    kept: list[bytes] = []
    dropped: Counter[str] = Counter()
    for line in lines:
        kind = kind_of(line)
        if kind is Kind.TRANSITION or may_go(spent + len(kept), budget, fraction, kind):
            kept.append(line)
        else:
            dropped[kind.reason] += 1
    return kept, dropped


def utc_now() -> datetime:
    """The moment, by this host's clock."""
    return datetime.now(timezone.utc)


class Budget:
    """`most` events a day, or any number. What was spent is kept in the destination's cursor, across restarts."""

    def __init__(self, most: int | None, now: Callable[[], datetime] = utc_now) -> None:
        self._most = most
        self._now = now

    def left(self, cursor: Cursor) -> int:
        """How many events may go out today."""
        self._begin_day(cursor)
        return sys.maxsize if self._most is None else max(self._most - cursor.spent, 0)

    def thin(self, lines: list[bytes], cursor: Cursor) -> tuple[list[bytes], Counter[str]]:
        """The lines that go out now, and how many of the others are dropped, by reason."""
        if self._most is None:
            return lines, Counter()
        now = self._now()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return thin(lines, cursor.spent, self._most, (now - midnight).total_seconds() / 86_400)

    def spend(self, cursor: Cursor, events: int) -> None:
        """Note that so many events went out just now; without a budget too, as others of the folder may have one."""
        self._begin_day(cursor)
        cursor.spent += events

    def _begin_day(self, cursor: Cursor) -> None:
        """Begin a day that is new. A clock that steps back over midnight begins none, one that was days ahead does."""
        today = self._now().date()
        tomorrow = today + timedelta(days=1)
        if not today.isoformat() <= cursor.spent_on <= tomorrow.isoformat():
            cursor.spent_on, cursor.spent = today.isoformat(), 0


NO_BUDGET = Budget(None)
