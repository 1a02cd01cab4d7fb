"""The counters of the promise that nothing is lost quietly: captured = delivered + rejected + dropped + pending."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict


class Stats(TypedDict):
    """The accounts of one journal, in events.

    `captured` is counted where events are read, the four figures below it where their fate is known: that they add up
    is the promise, and not how they are computed.
    `delivered` includes the `duplicates` that the endpoint already had. `dropped` says why, by reason.
    """

    captured: int
    delivered: int
    rejected: int
    dropped: dict[str, int]
    pending: int
    duplicates: int


_MOST = 2**53  # what every reader of JSON and of metrics can hold


def checked_int(value: Any) -> int:
    """`value`, a count or an offset from a file; raises TypeError or ValueError where it can be none.

    What is on a disk may be corrupted, and a negative count would be taken off what is counted rightly.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"a whole number is {type(value).__name__}")
    if not 0 <= value <= _MOST:
        raise ValueError("a count is out of its range")
    return value


@dataclass(slots=True)
class Counts:
    """What became of the events that a destination's cursor has passed."""

    delivered: int = 0
    duplicates: int = 0
    rejected: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    """What the destination does not choose to be told: no part of its accounts."""
    read: int = 0
    """Events as they were read, before anything became of them: to hold the other figures against."""
    resent: int = 0
    """Events that were sent a second time because the answer was lost: the endpoint may have them twice."""

    def add(self, other: Counts) -> None:
        """Add what `other` counted."""
        self.delivered += other.delivered
        self.duplicates += other.duplicates
        self.rejected += other.rejected
        self.dropped.update(other.dropped)
        self.skipped += other.skipped
        self.read += other.read
        self.resent += other.resent

    def subtract(self, other: Counts) -> None:
        """Take off the events and losses of `other`, which are accounted for elsewhere, whatever came of them here."""
        delivered = min(self.delivered, other.delivered)
        self.delivered -= delivered
        self.duplicates = min(self.duplicates, self.delivered)
        self.rejected -= min(self.rejected, other.delivered - delivered)
        self.dropped -= other.dropped
        self.read -= other.read

    def to_dict(self) -> dict[str, Any]:
        """The counts as they are kept in a cursor's file."""
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
        """The counts in `values`; raises TypeError, ValueError, KeyError or AttributeError where they are none."""
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
        """These counts with what is still pending, as anyone can read them."""
        return Stats(
            captured=self.read + pending,
            delivered=self.delivered,
            rejected=self.rejected,
            dropped=dict(self.dropped),
            pending=pending,
            duplicates=self.duplicates,
        )
