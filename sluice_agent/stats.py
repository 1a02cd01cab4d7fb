"""The counters that show that no event is lost silently: captured = delivered + rejected + dropped + pending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict


class Stats(TypedDict):
    """The counts of one journal, in events.

    `captured` is counted where events are read, the four figures below it where the result of each is known: that they
    add up is a check, not how they are computed.
    `delivered` includes the `duplicates` that the endpoint already had. `dropped` is counted by reason.
    """

    captured: int
    delivered: int
    rejected: int
    dropped: dict[str, int]
    pending: int
    duplicates: int


_MAX_INT = 2**53  # the largest that every parser of JSON and of metrics can represent


def checked_int(value: Any) -> int:
    """Return `value`, a count or an offset from a file; raise TypeError or ValueError if it is neither.

    A file may be corrupted, and a negative count would reduce the correct ones.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected an int, got {type(value).__name__}")
    if not 0 <= value <= _MAX_INT:
        raise ValueError("a count is out of range")
    return value


@dataclass(slots=True)
class Counts:
    """The results of the events that a destination's cursor has passed, by number."""

    delivered: int = 0
    duplicates: int = 0
    rejected: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    """Events that the destination's selector excludes: not part of its counts."""
    read: int = 0
    """Events as they were read, before their result was known: a check of the other figures."""
    resent: int = 0
    """Events that were sent a second time because the answer was lost: the endpoint may have them twice."""

    def add(self, other: Counts) -> None:
        """Add the counts of `other`."""
        self.delivered += other.delivered
        self.duplicates += other.duplicates
        self.rejected += other.rejected
        self.dropped.update(other.dropped)
        self.skipped += other.skipped
        self.read += other.read
        self.resent += other.resent

    def subtract(self, other: Counts) -> None:
        """Subtract the events and drops of `other`, which are counted elsewhere, whatever their result was here."""
        delivered = min(self.delivered, other.delivered)
        self.delivered -= delivered
        self.duplicates = min(self.duplicates, self.delivered)
        self.rejected -= min(self.rejected, other.delivered - delivered)
        self.dropped -= other.dropped
        self.read -= other.read

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as they are stored in a cursor's file."""
        return {
            "delivered": self.delivered,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "dropped": dict(self.dropped),
            "skipped": self.skipped,
            "taken": self.read,
            "resent": self.resent,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Counts:
        """Return the counts in `values`; raise TypeError, ValueError, KeyError or AttributeError if one is invalid."""
        return cls(
            delivered=checked_int(values["delivered"]),
            duplicates=checked_int(values["duplicates"]),
            rejected=checked_int(values["rejected"]),
            dropped=Counter({reason: checked_int(count) for reason, count in values["dropped"].items()}),
            skipped=checked_int(values["skipped"]),
            read=checked_int(values["taken"]),
            resent=checked_int(values["resent"]),
        )

    def stats(self, pending: int) -> Stats:
        """Return these counts with the events still pending, for users."""
        return Stats(
            captured=self.read + pending,
            delivered=self.delivered,
            rejected=self.rejected,
            dropped=dict(self.dropped),
            pending=pending,
            duplicates=self.duplicates,
        )
