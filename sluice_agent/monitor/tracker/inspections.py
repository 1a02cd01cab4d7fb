"""Which workers are to be inspected: their replies show what they are, and which tasks they have."""

from __future__ import annotations

from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.worker_store import TrackedWorker, WorkerStore

_REPLY_SECONDS = 5.0  # doubled with every inspection: the time for a reply before the next inspection
_MAX_INSPECTIONS = 5  # of a worker that does not reply
_NO_HEARTBEATS_SECONDS = 10.0  # between two inspections of a worker without heartbeats, which may have been replaced
_NO_EVENTS_SECONDS = 30.0  # between two inspections of a worker without events, for the jobs that it still runs


class Inspections:
    """Selects the workers that are due: new ones, those that have returned or not replied, and all after a gap."""

    def __init__(self, workers: WorkerStore, timers: Timers) -> None:
        self._workers = workers
        self._timers = timers
        self._is_discovery_due = False

    def take_due(self) -> list[str]:
        """Return the names of the workers to inspect now, and count that as an inspection of each."""
        now = self._timers.now
        candidates = {id(worker): worker for worker in self._workers.current() if worker.may_be_online}
        candidates |= {id(worker): worker for worker in self._workers.all() if worker.has_agent is None}
        due = [worker for worker in candidates.values() if _is_due(worker, now)]
        for worker in due:
            worker.is_inspected, worker.inspected_at = True, now
            worker.times_inspected += 1
        return [worker.hostname for worker in due]

    def take_discovery(self) -> bool:
        """Return whether to inspect unknown workers too, once for a request: a worker may send no events at all."""
        is_due, self._is_discovery_due = self._is_discovery_due, False
        return is_due

    def request_all(self) -> None:
        """Request an inspection of all workers, unknown ones included: see `take_discovery`."""
        self._is_discovery_due = True
        for worker in self._workers.current():
            worker.is_inspected = False

    def restart(self, worker: TrackedWorker) -> None:
        """Let `worker`, which has started or whose events were missed, be inspected as if it were new."""
        worker.is_inspected, worker.times_inspected = False, 0

    def have_replied(self, since: float) -> bool:
        """Return whether all workers online have listed their tasks since then, except those that never reply."""
        return all(worker.replied_at >= since or _never_replies(worker) for worker in self._workers.online().values())


def _is_due(worker: TrackedWorker, now: float) -> bool:
    """Return whether `worker` was not inspected yet, has not replied, or is to be inspected regularly."""
    if not worker.is_inspected:
        return True
    if worker.frequency is None and worker.last_seen - worker.inspected_at > _NO_HEARTBEATS_SECONDS:
        return True
    if worker.sends_no_events and worker.running and now - worker.inspected_at > _NO_EVENTS_SECONDS:
        return True
    wait = _REPLY_SECONDS * 2**worker.times_inspected
    return worker.pool is None and worker.times_inspected < _MAX_INSPECTIONS and now - worker.inspected_at > wait


def _never_replies(worker: TrackedWorker) -> bool:
    """Return whether `worker` has left all inspections unanswered: one may be configured so."""
    return worker.pool is None and worker.times_inspected >= _MAX_INSPECTIONS
