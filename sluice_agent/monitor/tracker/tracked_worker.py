"""The record of one worker process."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice_agent.monitor.tracker.task_store import Process, Run

USUAL_FREQUENCY = 2.0
"""Seconds between two heartbeats of a worker that has not named its own interval."""

_MISSED_HEARTBEATS = 3  # in a row
_LATENESS_SECONDS = 1.0  # that a heartbeat may be late, as the time here is set once a second
_BUSY_SOLO_SECONDS = 3_600.0  # a solo worker sends nothing while it runs a task
_REPLY_SECONDS = 5.0  # doubled with every inspection: the time for a reply before the next inspection
_MAX_INSPECTIONS = 5  # of a worker that does not reply
_NO_HEARTBEATS_SECONDS = 10.0  # between two inspections of a worker without heartbeats, which may have been replaced
_NO_EVENTS_SECONDS = 30.0  # between two inspections of a worker without events, for the jobs that it still runs


@dataclass(slots=True, eq=False)
class TrackedWorker:
    """One worker process as its events show it.

    `last_seen` is our wall clock, in seconds of the epoch, `last_timestamp` the worker's own.
    """

    process: Process
    last_seen: float
    last_timestamp: float
    frequency: float | None = None
    """Seconds between two heartbeats; None where none was received: the loss of such a worker can't be detected."""
    is_online: bool = False
    is_busy: bool = False
    sends_no_events: bool = True
    """True if only replies of it were ever received: a worker without heartbeats and gossip can't send events."""
    has_agent: bool | None = None
    """True if the worker's agent reports it and its jobs to the same connection. None: not known yet."""
    undecided: list[bytes] = field(default_factory=list)
    """Events of its jobs, to be emitted if it has no agent that does so."""
    active: int | None = None
    pool: str | None = None
    concurrency: int | None = None
    queues: tuple[str, ...] = ()
    software: str | None = None
    system: str | None = None
    is_inspected: bool = False
    times_inspected: int = 0
    """Inspections since it came online; one that is too busy to reply is inspected a few times."""
    inspected_at: float = 0.0
    replied_at: float = 0.0
    """The time of its last reply that lists its tasks, by our wall clock."""
    running: dict[str, Run] = field(default_factory=dict)
    busy_at: float = 0.0
    """The time of the last heartbeat with a running task."""
    idle_since: float | None = None
    """The time of the first of the last heartbeats in a row without a running task."""
    unreported_ends: UnreportedEnds | None = None
    """The runs some of which must have ended, as a heartbeat counts fewer than are known to run."""
    heartbeat_slot: int = -1

    @property
    def hostname(self) -> str:
        """The worker's node name."""
        return self.process.hostname

    @property
    def may_be_online(self) -> bool:
        """True if it is not known to have gone: a worker that sends no heartbeats is never reported online."""
        return self.is_online or self.frequency is None

    @property
    def pid(self) -> int:
        """The process id of its main process."""
        return self.process.pid

    @property
    def silence_timeout(self) -> float:
        """Seconds of silence after which it counts as lost."""
        missed = _MISSED_HEARTBEATS * (self.frequency or USUAL_FREQUENCY) + _LATENESS_SECONDS
        return max(missed, _BUSY_SOLO_SECONDS) if self.pool == "solo" and self.running else missed

    def is_due_for_inspection(self, now: float) -> bool:
        """Return whether it was not inspected yet, has not replied, or is to be inspected regularly."""
        if not self.is_inspected:
            return True
        if self.frequency is None and self.last_seen - self.inspected_at > _NO_HEARTBEATS_SECONDS:
            return True
        if self.sends_no_events and self.running and now - self.inspected_at > _NO_EVENTS_SECONDS:
            return True
        wait = _REPLY_SECONDS * 2**self.times_inspected
        return self.pool is None and self.times_inspected < _MAX_INSPECTIONS and now - self.inspected_at > wait

    @property
    def never_replies(self) -> bool:
        """True if it has left all inspections unanswered: a worker may be configured so."""
        return self.pool is None and self.times_inspected >= _MAX_INSPECTIONS

    @property
    def only_queue(self) -> str | None:
        """The queue that all its tasks come from, if it has only one."""
        return self.queues[0] if len(self.queues) == 1 else None


@dataclass(slots=True, eq=False)
class UnreportedEnds:
    """Ends without events: a heartbeat at `at` has counted `active` running tasks, fewer than the `candidates`.

    A run that ends later was one of those. When all the active ones are accounted for, the others had ended before.
    """

    at: float
    active: int
    candidates: dict[str, Run]

    def on_run_ended(self, external_id: str, run: Run, at: float) -> None:
        """Account for `run`, which has ended at `at`."""
        if self.candidates.get(external_id) is run:
            del self.candidates[external_id]
            self.active -= at > self.at

    @property
    def is_resolved(self) -> bool:
        """True if all is known that can be inferred of the candidates."""
        return self.active <= 0 or len(self.candidates) <= self.active

    @property
    def ended(self) -> dict[str, Run]:
        """The runs that have ended without an event."""
        return self.candidates if self.active <= 0 else {}
