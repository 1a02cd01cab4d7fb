"""The states of a run."""

from __future__ import annotations

from enum import Enum


class Status(str, Enum):
    """The state of a run."""

    DELAYED = "delayed"
    QUEUED = "queued"
    WAITING = "waiting"
    DEQUEUED = "dequeued"
    EXECUTING = "executing"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    SYSTEM_FAILED = "system_failed"
    CANCELED = "canceled"
    EXPIRED = "expired"
    DEAD_LETTER = "dead_letter"


UNDER_WAY = (Status.DELAYED, Status.QUEUED, Status.WAITING, Status.DEQUEUED, Status.EXECUTING)
"""The states of a run that has not ended."""

TERMINAL = tuple(status for status in Status if status not in UNDER_WAY)
"""The states in which a run ends. A replay of the same run leads out of `dead_letter` again."""

UNSUCCESSFUL = (
    Status.FAILED,
    Status.TIMED_OUT,
    Status.CRASHED,
    Status.SYSTEM_FAILED,
    Status.DEAD_LETTER,
)
"""The ends after which a run may be replayed."""
