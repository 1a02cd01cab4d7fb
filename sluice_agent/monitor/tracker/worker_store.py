"""Records of the worker processes, by process and by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from sys import intern

from sluice_agent.monitor.tracker.parsing import EARLIEST_TIME, Event, as_count, as_time, get_text
from sluice_agent.monitor.tracker.tasks import Process, Run
from sluice_agent.monitor.tracker.timers import Timers

USUAL_FREQUENCY = 2.0
"""Seconds between two heartbeats of a worker that has not named its own interval."""

_MISSED_HEARTBEATS = 3  # in a row
_LATENESS_SECONDS = 1.0  # that a heartbeat may be late, as the time here is set once a second
_BUSY_SOLO_SECONDS = 3_600.0  # a solo worker sends nothing while it runs a task


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
    sends_no_events: bool = True
    """True if only replies of it were ever received: a worker without heartbeats and gossip can't send events."""
    has_agent: bool | None = None
    """True if the worker's agent reports it and its jobs to the same connection. None: not known yet."""
    emit: Callable[[bytes], None] | None = None
    """Receives the events of its jobs; None: its agent emits them."""
    undecided: list[bytes] = field(default_factory=list)
    """Events of its jobs, to be emitted if it has no agent that does so."""
    active: int | None = None
    """Its running tasks, as its last heartbeat counts them."""
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
    """Its runs that are under way, by the ids of their tasks. Changed by the methods of this class only."""
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

    @property
    def only_queue(self) -> str | None:
        """The queue that all its tasks come from, if it has only one."""
        return self.queues[0] if len(self.queues) == 1 else None

    def add_run(self, external_id: str, run: Run) -> None:
        """Record that `run` of this task is under way."""
        self.running[external_id] = run

    def remove_run(self, external_id: str) -> Run | None:
        """Remove and return the run of this task, if one is under way."""
        return self.running.pop(external_id, None)

    def remove_runs(self, is_over: Callable[[Run], bool] = lambda _: True) -> dict[str, Run]:
        """Remove and return all runs of which `is_over` returns True."""
        over = {external_id: run for external_id, run in self.running.items() if is_over(run)}
        for external_id in over:
            del self.running[external_id]
        return over

    def on_run_ended(self, external_id: str, run: Run, at: float) -> None:
        """Record that `run` has ended, at `at` if an event reports it, else 0."""
        self._discard(external_id, run)
        unreported_ends = self.unreported_ends
        if unreported_ends is not None:
            unreported_ends.on_run_ended(external_id, run, at)
            if unreported_ends.is_resolved:
                for ended_id, ended_run in unreported_ends.ended.items():
                    self._discard(ended_id, ended_run)
                self.unreported_ends = None

    def on_running_count(self, active: int, at: float) -> None:
        """Compare the runs under way with their number in a heartbeat at `at`: some may have ended without an event."""
        if self.unreported_ends is None and len(self.running) > active:
            began = {key: run for key, run in self.running.items() if (run.started or 0.0) <= at}
            unreported_ends = UnreportedEnds(at, active, began)
            self.unreported_ends = None if unreported_ends.is_resolved else unreported_ends

    def _discard(self, external_id: str, run: Run) -> None:
        if self.running.get(external_id) is run:
            del self.running[external_id]


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


class WorkerStore:
    """The worker processes that are known. `on_new` is called with each new one."""

    def __init__(self, timers: Timers, on_new: Callable[[TrackedWorker], None]) -> None:
        self._timers = timers
        self._on_new = on_new
        self._workers: dict[tuple[str, int], TrackedWorker] = {}
        self._current: dict[str, TrackedWorker] = {}
        self._queues_of_agents: frozenset[str] = frozenset()
        self._past_queues_of_agents: set[str] = set()

    def __len__(self) -> int:
        return len(self._workers)

    def touch(self, event: Event) -> tuple[TrackedWorker, float]:
        """Record that the process that sent `event` is alive. Return its record, and when the event happened.

        The record is a new one if the process is not known, the time the present if the event has no valid one.
        """
        hostname, pid = event.get("hostname"), event.get("pid")
        worker = self._workers.get((hostname, pid)) if isinstance(hostname, str) and isinstance(pid, int) else None
        now = self._timers.now
        if worker is None:
            worker = self._get_or_create(
                Process(intern(get_text(event, "hostname") or "unknown"), as_count(event.get("pid")) or 0)
            )
        worker.last_seen = now
        if worker.sends_no_events:
            worker.sends_no_events = "type" not in event
        at = event.get("timestamp")
        if type(at) is not float or not EARLIEST_TIME < at <= now:  # as nearly all are
            at = as_time(at, now)
            if at is None:
                return worker, now
        worker.last_timestamp = at
        return worker, at

    def touch_process(self, process: Process) -> TrackedWorker:
        """Record that this process is alive, and return its record, a new one if it is not known."""
        worker = self._get_or_create(process)
        worker.last_seen = self._timers.now
        return worker

    def get(self, process: Process) -> TrackedWorker | None:
        """Return the worker process, if it is known."""
        return self._workers.get(process)

    def named(self, hostname: str) -> TrackedWorker | None:
        """Return the worker process that has this name at present, if any."""
        return self._current.get(hostname)

    def all(self) -> Collection[TrackedWorker]:
        """Return all known processes, including those that have gone a short while ago."""
        return list(self._workers.values())

    def current(self) -> Collection[TrackedWorker]:
        """Return the process of each name."""
        return self._current.values()

    def online(self) -> Mapping[str, TrackedWorker]:
        """Return the workers that are online, by name."""
        return {name: worker for name, worker in self._current.items() if worker.is_online}

    def namesakes(self, worker: TrackedWorker) -> list[TrackedWorker]:
        """Return the other processes of this worker's name, if one of them has it at present."""
        current = self._current.get(worker.hostname)
        if current is None or current is worker:
            return []
        return [other for other in self._workers.values() if other.hostname == worker.hostname and other is not worker]

    def take_name(self, worker: TrackedWorker) -> None:
        """Record that `worker` has its name at present: it has come online."""
        self._current[worker.hostname] = worker

    def remove(self, worker: TrackedWorker) -> None:
        """Forget a worker process that has gone."""
        del self._workers[worker.process]
        if self._current.get(worker.hostname) is worker:
            del self._current[worker.hostname]

    def update_queues_of_agents(self) -> None:
        """Collect the queues that workers with agents consume. To be called about once a second."""
        self._queues_of_agents = frozenset(
            queue
            for worker in self._workers.values()
            if worker.has_agent and worker.may_be_online
            for queue in worker.queues
        )
        self._past_queues_of_agents |= self._queues_of_agents

    def is_reported(self, queue: str | None) -> bool:
        """Return whether a worker whose agent reports receipts consumes `queue`."""
        return queue in self._queues_of_agents

    def may_be_reported(self, queue: str) -> bool:
        """Return whether a worker's agent may report the jobs of this queue, even if the worker sends no events."""
        any_queue = any(worker.has_agent and not worker.queues for worker in self.online().values())  # not known which
        return any_queue or queue in self._past_queues_of_agents

    def _get_or_create(self, process: Process) -> TrackedWorker:
        worker = self._workers.get(process)
        if worker is None:
            now = self._timers.now
            worker = self._workers[process] = TrackedWorker(process, last_seen=now, last_timestamp=now)
            self._current.setdefault(process.hostname, worker)
            self._on_new(worker)
        return worker
