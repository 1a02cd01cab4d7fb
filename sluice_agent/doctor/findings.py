"""The result of a check: what it found, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(str, Enum):
    """Severity of a finding. Only a `fault` prevents events from being captured or delivered."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one subject. `todo` is empty if there is nothing to do."""

    level: Level
    subject: str
    found: str
    todo: str = ""


def ok(subject: str, found: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(Level.OK, subject, found)


def note(subject: str, found: str, todo: str = "") -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(Level.NOTE, subject, found, todo)


def warning(subject: str, found: str, todo: str) -> Finding:
    """Return a finding of something that works, but not as well as it could."""
    return Finding(Level.WARNING, subject, found, todo)


def fault(subject: str, found: str, todo: str) -> Finding:
    """Return a finding of something that does not work."""
    return Finding(Level.FAULT, subject, found, todo)
