"""A daily budget of events: which ones are sent as it runs out. The day is UTC's, as the endpoint's limit is.

Heartbeats are thinned out first, then queue snapshots, then repeated progress: a kind may only use its share of what
the day so far allows, so that something is left for the rest of the day. Transitions are sent until the budget is
spent, and then wait for the next day: the budget drops none of them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from sluice_agent.transport.journal.cursor import Cursor
from sluice_agent.transport.journal.line import VITALS, Kind, kind_of
from sluice_agent.transport.journal.line_selector import Selector

_HEAD_START = 0.1  # of its share that a kind may use as the day begins: a small worker's events are never thinned
_SHARES = {Kind.HEARTBEAT: 0.6, Kind.QUEUE: 0.75, Kind.PROGRESS: 0.9}  # of the budget, for kinds that are thinned out


def may_send(spent: int, budget: int, fraction: float, kind: Kind) -> bool:
    """Return whether an event of `kind` is sent when `fraction` (0 to 1) of the day is over and `spent` are spent.

    A transition is sent while any of `budget` is left; False means that it waits. For the other kinds False means that
    the event is dropped.
    """
    if kind not in _SHARES:
        return spent < budget
    return spent < budget * _SHARES[kind] * (_HEAD_START + (1 - _HEAD_START) * fraction)


def thin(lines: list[bytes], spent: int, budget: int, fraction: float) -> tuple[list[bytes], Counter[str]]:
    """Return the lines that are sent, or wait, and the numbers of the others, which are dropped, by reason."""
    kept: list[bytes] = []
    dropped: Counter[str] = Counter()
    for line in lines:
        kind = kind_of(line)
        if kind not in _SHARES or may_send(spent + len(kept), budget, fraction, kind):
            kept.append(line)
        else:
            dropped[f"budget_{kind.value}"] += 1
    return kept, dropped


def utc_now() -> datetime:
    """Return the present time in UTC, by this host's clock."""
    return datetime.now(timezone.utc)


class Budget:
    """`limit` events a day; None: any number. The destination's cursor keeps what is spent, across restarts."""

    def __init__(self, limit: int | None, now: Callable[[], datetime] = utc_now) -> None:
        self._limit = limit
        self._now = now

    def left(self, cursor: Cursor) -> int:
        """Return the number of events that may still be sent today."""
        self._begin_day(cursor)
        return sys.maxsize if self._limit is None else max(self._limit - cursor.spent, 0)

    def readable(self, cursor: Cursor, max_lines: int) -> tuple[Selector, int]:
        """Return the selector of the lines that may be read now, and their number, at most `max_lines`.

        When the day's budget is spent, only heartbeats and queue snapshots are read, to be dropped: the rest waits.
        """
        left = self.left(cursor)
        if not left:
            return cursor.selector.in_lane(VITALS), max_lines
        return cursor.selector, min(max_lines, left)

    def thin(self, lines: list[bytes], cursor: Cursor) -> tuple[list[bytes], Counter[str]]:
        """Return the lines that are sent now, and the numbers of the others, which are dropped, by reason."""
        if self._limit is None:
            return lines, Counter()
        now = self._now()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return thin(lines, cursor.spent, self._limit, (now - midnight).total_seconds() / 86_400)

    def spend(self, cursor: Cursor, events: int) -> None:
        """Count events that were just sent; without a budget too, as another process of the directory may have one."""
        self._begin_day(cursor)
        cursor.spent += events

    def _begin_day(self, cursor: Cursor) -> None:
        """Begin a new day. A clock that steps back over midnight begins none, one that was days ahead does."""
        today = self._now().date()
        tomorrow = today + timedelta(days=1)
        if not today.isoformat() <= cursor.spent_on <= tomorrow.isoformat():
            cursor.spent_on, cursor.spent = today.isoformat(), 0


NO_BUDGET = Budget(None)
