"""The state of an alert, and how a reading changes it: a pure function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from sluice_agent.server.alerts.rules import Rule

_SECOND = 1_000_000  # in microseconds, as all moments

LONGEST_GAP = 120 * _SECOND
"""Microseconds between two readings from which it is not known what was meanwhile: times begin again."""


class Phase(str, Enum):
    """The phases of an alert."""

    QUIET = "quiet"
    PENDING = "pending"
    """The condition holds, not yet for long enough."""
    FIRING = "firing"


class Notice(str, Enum):
    """What is sent."""

    FIRING = "alert.firing"
    REPEATED = "alert.repeated"
    RESOLVED = "alert.resolved"


@dataclass(frozen=True, slots=True)
class AlertState:
    """The phase of an alert and its moments. `since` is when the condition began to hold, `clear_since` when it ceased
    to while the alert fires, `known_at` the last reading in which either was known."""

    phase: Phase = Phase.QUIET
    since: int | None = None
    clear_since: int | None = None
    notified_at: int | None = None
    known_at: int | None = None


def advanced(state: AlertState, is_above: bool | None, rule: Rule, now: int) -> tuple[AlertState, Notice | None]:
    """Return the state after a reading at `now`, and what is to be sent. One that is not known changes nothing."""
    if is_above is None:
        return state, None
    is_gap = state.known_at is None or now - state.known_at > LONGEST_GAP
    known = replace(state, known_at=now)
    if is_gap:
        known = replace(known, clear_since=None, since=known.since if state.phase is Phase.FIRING else None)
    if state.phase is Phase.FIRING:
        return _while_firing(known, is_above, rule, now)
    if not is_above:
        return AlertState(known_at=now), None
    since = now if known.since is None else known.since
    if now - since < rule.holds_for * _SECOND:
        return AlertState(Phase.PENDING, since, known_at=now), None
    return AlertState(Phase.FIRING, since, notified_at=now, known_at=now), Notice.FIRING


def _while_firing(state: AlertState, is_above: bool, rule: Rule, now: int) -> tuple[AlertState, Notice | None]:
    if not is_above:
        clear_since = now if state.clear_since is None else state.clear_since
        if now - clear_since >= rule.resolves_after * _SECOND:
            return AlertState(known_at=now), Notice.RESOLVED
        return replace(state, clear_since=clear_since), None
    state = replace(state, clear_since=None)
    notified_at = state.notified_at or 0
    if rule.repeat is not None and now - notified_at >= rule.repeat * _SECOND:
        return replace(state, notified_at=now), Notice.REPEATED
    return state, None
