"""What a check says: what it found, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(str, Enum):
    """How bad it is. Only a `fault` keeps events from being captured or delivered."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `todo` is empty where there is nothing to do."""

    level: Level
    subject: str
    found: str
    todo: str = ""


def ok(subject: str, found: str) -> Finding:
    """All is well with `subject`."""
    return Finding(Level.OK, subject, found)


def note(subject: str, found: str, todo: str = "") -> Finding:
    """Worth knowing."""
    return Finding(Level.NOTE, subject, found, todo)


def warning(subject: str, found: str, todo: str) -> Finding:
    """Works, but not as well as it could."""
    return Finding(Level.WARNING, subject, found, todo)


def fault(subject: str, found: str, todo: str) -> Finding:
    """Does not work."""
    return Finding(Level.FAULT, subject, found, todo)
