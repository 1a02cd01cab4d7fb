"""A job's states over time as rows of text with bars: to scale, but for idle time that would hide the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from sluice_agent.model import JobState

IDLE_NOTE = "┄ idle time, not to scale"

_TIME = TypeAdapter(datetime)  # accepts any number of digits; Python 3.10 itself accepts 3 or 6
_IDLE = frozenset({"queued", "scheduled", "retrying", "unknown"})
_FINAL = frozenset(state.value for state in JobState if state.is_final)


@dataclass(frozen=True, slots=True)
class Row:
    """One state: its timestamp as it was sent, seconds since the first state, and milliseconds until the next.

    `attempt` is None if the history does not show it, `milliseconds` is None for an end. A folded `bar` is idle time
    that is longer than it is drawn.
    """

    timestamp: str
    offset: float
    state: str
    attempt: int | None
    milliseconds: float | None
    bar: str
    is_folded: bool


def timeline(record: dict[str, Any], now: datetime, width: int) -> list[Row]:
    """Return a row for each state of a job's record, with bars of `width` characters. A job that goes on ends `now`.

    Raises `LookupError`, `TypeError` or `ValueError` if `record` is not a job's.
    """
    history = [(str(step["state"]), str(step["timestamp"])) for step in record["stateHistory"]]
    times = [_TIME.validate_python(timestamp) for _, timestamp in history]
    if not times:
        return []
    ends = [*times[1:], times[-1] if history[-1][0] in _FINAL else max(now, times[-1])]
    durations = [max(0.0, (end - start).total_seconds()) for start, end in zip(times, ends, strict=True)]
    drawn = _drawn_lengths([state for state, _ in history], durations)
    attempts = _attempts([state for state, _ in history], record.get("attempt"))
    scale = width / (sum(drawn) or 1.0)
    rows, position = [], 0.0
    for index, (state, timestamp) in enumerate(history):
        is_folded = drawn[index] < durations[index]
        rows.append(
            Row(
                timestamp=timestamp,
                offset=(times[index] - times[0]).total_seconds(),
                state=state,
                attempt=attempts[index],
                milliseconds=None if state in _FINAL else 1_000 * durations[index],
                bar=_bar(state, position * scale, drawn[index] * scale, width, is_folded),
                is_folded=is_folded,
            )
        )
        position += drawn[index]
    return rows


def _drawn_lengths(states: Sequence[str], durations: Sequence[float]) -> list[float]:
    """Return the seconds for which each state is drawn: idle time not longer than all other time together."""
    busy = sum(duration for state, duration in zip(states, durations, strict=True) if state not in _IDLE)
    longest = busy or sum(durations)
    return [
        min(duration, longest) if state in _IDLE else duration
        for state, duration in zip(states, durations, strict=True)
    ]


def _attempts(states: Sequence[str], last: Any) -> list[int | None]:
    """Return the attempt of each state: a retry ends one. Nothing if that does not lead to the record's own number."""
    numbers, number = [], 1
    for index, state in enumerate(states):
        if index and states[index - 1] == "retrying":
            number += 1
        numbers.append(number if state not in _IDLE else None)
    return numbers if number == last and number > 1 else [None] * len(numbers)


def _bar(state: str, start: float, length: float, width: int, is_folded: bool) -> str:
    column = min(int(start), width - 1)
    end = min(max(column + 1, round(start + length)), width)
    if state in _FINAL:
        return " " * column + "●"
    glyph = "┄" if is_folded else "░" if state in _IDLE else "█"
    return " " * column + glyph * (end - column)
