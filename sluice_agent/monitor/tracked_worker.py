"""One worker process, as a monitor knows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice_agent.monitor.task_store import Process, Run

USUAL_FREQUENCY = 2.0
"""Seconds between two heartbeats of a worker that has not said otherwise."""

_MISSED_HEARTBEATS = 3  # heartbeats in a row
_LATENESS_SECONDS = 1.0  # seconds that a heartbeat may be late, as the clock here is wound once a second
_BUSY_SOLO_SECONDS = 3_600.0  # seconds: a solo worker says nothing while it runs a task
_FIRST_ANSWER_SECONDS = 5.0  # in which a worker answers, at first; then twice that, and so on
_MAX_INSPECTIONS = 5  # times
_NO_HEARTBEATS_SECONDS = 10.0  # between two questions to a worker without heartbeats, which may have been replaced

_NO_EVENTS_SECONDS = 30.0  # between two questions to a worker that sends no events, as to which of its jobs go on


@dataclass(slots=True, eq=False)
class TrackedWorker:
    """One worker process as its events show it.

    `last_seen` is our wall clock, in seconds of the epoch, `last_timestamp` the worker's own.
    """

    process: Process
    last_seen: float
    last_timestamp: float
    frequency: float | None = None
    """Seconds between two heartbeats; None where none was heard: such a worker can't be told to be lost."""
    is_online: bool = False
    is_busy: bool = False
    sends_no_events: bool = True
    """Whether no event of it was ever heard, but answers were: one without heartbeats and gossip can't send any."""
    has_agent: bool | None = None
    """Whether an agent of its own reports it and its jobs to the same connection. None: not known yet."""
    undecided: list[bytes] = field(default_factory=list)
    """What is to be reported of its jobs in case that no agent does."""
    active: int | None = None
    pool: str | None = None
    concurrency: int | None = None
    queues: tuple[str, ...] = ()
    software: str | None = None
    system: str | None = None
    is_asked: bool = False
    times_asked: int = 0
    """How often since it came; it is asked again, a few times, where it was too busy to answer."""
    asked_at: float = 0.0
    answered_at: float = 0.0
    """When it said last which tasks it has, by our wall clock."""
    running: dict[str, Run] = field(default_factory=dict)
    busy_at: float = 0.0
    """The time of the last heartbeat that said that a task runs."""
    idle_since: float | None = None
    """The time of the first of the last heartbeats that all said that no task runs."""
    unreported_ends: UnreportedEnds | None = None
    """Of the runs that are under way: which of them are over by now, where it said that fewer run."""
    heartbeat_slot: int = -1

    @property
    def hostname(self) -> str:
        """Its node name."""
        return self.process.hostname

    @property
    def may_be_online(self) -> bool:
        """Whether it has not gone, as far as is known: one that sends no heartbeats is never said to be online."""
        return self.is_online or self.frequency is None

    @property
    def pid(self) -> int:
        """The number of its main process."""
        return self.process.pid

    @property
    def silence_timeout(self) -> float:
        """For how many seconds it may be silent without being lost."""
        missed = _MISSED_HEARTBEATS * (self.frequency or USUAL_FREQUENCY) + _LATENESS_SECONDS
        return max(missed, _BUSY_SOLO_SECONDS) if self.pool == "solo" and self.running else missed

    def is_due_for_inspection(self, now: float) -> bool:
        """Whether it was not asked yet, or has not answered."""
        if not self.is_asked:
            return True
        if self.frequency is None and self.last_seen - self.asked_at > _NO_HEARTBEATS_SECONDS:
            return True
        if self.sends_no_events and self.running and now - self.asked_at > _NO_EVENTS_SECONDS:
            return True
        wait = _FIRST_ANSWER_SECONDS * 2**self.times_asked
        return self.pool is None and self.times_asked < _MAX_INSPECTIONS and now - self.asked_at > wait

    @property
    def never_answers(self) -> bool:
        """Whether it answers nothing: some are made so."""
        return self.pool is None and self.times_asked >= _MAX_INSPECTIONS

    @property
    def only_queue(self) -> str | None:
        """The queue that all its tasks come from, if there is but one."""
        return self.queues[0] if len(self.queues) == 1 else None


@dataclass(slots=True, eq=False)
class UnreportedEnds:
    """A worker said at a moment that fewer tasks run than were heard of: of `candidates`, so many are `active`.

    What ends later did run then. When that accounts for all that were active, the others had ended before.
    """

    at: float
    active: int
    candidates: dict[str, Run]

    def on_run_ended(self, external_id: str, run: Run, at: float) -> None:
        """An event says that `run` ended at this time."""
        if self.candidates.get(external_id) is run:
            del self.candidates[external_id]
            self.active -= at > self.at

    @property
    def is_resolved(self) -> bool:
        """Whether it is known of each what became of it, as far as it can be."""
        return self.active <= 0 or len(self.candidates) <= self.active

    @property
    def ended(self) -> dict[str, Run]:
        """Those that had ended without a word."""
        return self.candidates if self.active <= 0 else {}
