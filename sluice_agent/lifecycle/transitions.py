"""Transitions of a job: each unified state together with Celery's own state, for every observer.

Imports nothing of Celery.
"""

from __future__ import annotations

from typing import NamedTuple

from sluice_agent.model import JobState


class Transition(NamedTuple):
    """A state that a job enters, and what Celery calls it."""

    state: JobState
    celery_state: str


QUEUED = Transition(JobState.QUEUED, "PENDING")
SCHEDULED = Transition(JobState.SCHEDULED, "PENDING")
LOST_WHILE_WAITING = Transition(JobState.UNKNOWN, "PENDING")
"""It is not known whether the broker has the job's message, or had it and has lost it."""
STARTED = Transition(JobState.ACTIVE, "STARTED")
PROGRESSED = Transition(JobState.ACTIVE, "PROGRESS")
SUCCEEDED = Transition(JobState.COMPLETED, "SUCCESS")
IGNORED = Transition(JobState.COMPLETED, "IGNORED")
FAILED = Transition(JobState.FAILED, "FAILURE")
REJECTED = Transition(JobState.FAILED, "REJECTED")
REQUEUED = Transition(JobState.QUEUED, "REJECTED")
RETRIED = Transition(JobState.RETRYING, "RETRY")
REVOKED = Transition(JobState.CANCELLED, "REVOKED")
LOST_WHILE_RUNNING = Transition(JobState.UNKNOWN, "STARTED")
"""The worker has gone, or its connection had, and the end of the run is not known."""
CUT_OFF = Transition(JobState.CANCELLED, "STARTED")
"""Celery stopped the run as it shut down, and announced no state."""
CUT_OFF_BY_CANCEL = Transition(JobState.CANCELLED, "RETRY")
"""Celery cancelled the run as it shut down, or as it lost its broker: it announces that as a retry."""
RETURNED_BY_CANCEL = Transition(JobState.QUEUED, "RETRY")
"""The same, of a job whose message is not acknowledged: it goes back to its queue."""
LOST_BY_CANCEL = Transition(JobState.UNKNOWN, "RETRY")
"""The same, if it is not known whether the message was acknowledged."""

CUT_OFF_REASON = "cut off by a cold shutdown"


def waiting(eta: str | None, published_at: str | None = None) -> Transition:
    """Return how a published job waits: scheduled if its `eta` is after `published_at`, both timestamps.

    Where the time of publication is not known, any `eta` counts: it was published to start later, even if that time has
    passed while it waited.
    """
    return SCHEDULED if eta and (published_at is None or eta > published_at) else QUEUED
