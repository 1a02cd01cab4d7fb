"""Jobs that seem to wait for ever: they have left their queue, and no worker reports them.

A worker that sends no events may have received them, or the broker has discarded them. Before a job is reported as
missing, its queue was seen empty after its publication, and then every worker was asked which jobs it has.
"""

from __future__ import annotations

from collections.abc import Mapping

from sluice_agent.lifecycle.routing import DELAYED
from sluice_agent.lifecycle.timestamps import seconds_from_iso
from sluice_agent.monitor.tracker.inspections import Inspections
from sluice_agent.monitor.tracker.recorder import Recorder
from sluice_agent.monitor.tracker.task_store import TaskStore
from sluice_agent.monitor.tracker.tasks import Task
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.worker_store import WorkerStore

MISSING_SECONDS = 30.0
"""Time that a job may wait in an empty queue: a worker that sends events reports its receipt within seconds."""

_LAST_EVENT_SECONDS = 5.0  # in which an event arrives that was on its way when its job's queue was seen empty
# Seconds until a check has failed: the broker is away, or a solo worker is busy. The next may succeed.
_CHECK_TIMEOUT = 90.0


class MissingJobs:
    """Looks every `seconds` for jobs that have waited for so long, and reports the missing ones as `unknown`.

    The time is that of `timers`. A check of 100,000 remembered tasks takes 0.1 s.
    """

    def __init__(
        self,
        *,
        recorder: Recorder,
        tasks: TaskStore,
        workers: WorkerStore,
        inspections: Inspections,
        timers: Timers,
        seconds: float,
    ) -> None:
        self._recorder = recorder
        self._tasks = tasks
        self._workers = workers
        self._inspections = inspections
        self._timers = timers
        self._seconds = seconds
        self._checked_at = 0.0
        self._suspects: dict[str, Task] = {}
        self.queues: frozenset[str] = frozenset()
        """The queues whose lengths are to be read."""
        self._asked_at: float | None = None
        """The time at which the suspects' queues were seen empty, and workers were to be inspected."""

    def check(self, *, is_standby: bool) -> None:
        """Take the next step. To be called about once a second.

        On standby nothing is missing: another monitor receives the events of jobs.
        """
        now = self._timers.now
        passed = now - self._checked_at
        if is_standby or not 0 <= passed < _CHECK_TIMEOUT:
            self._suspects, self.queues = {}, frozenset()
        asked = self._asked_at
        if not self._suspects:
            if not 0 <= passed < self._seconds:
                self._collect_suspects(now)
        elif asked is not None and now - asked >= _LAST_EVENT_SECONDS and self._inspections.have_replied(asked):
            self._report_suspects()

    def on_queue_lengths(self, ready: Mapping[str, int]) -> None:
        """Receive the number of ready messages by queue, read after `queues` were requested."""
        if self.queues:
            self.queues = frozenset()
            # No event names the ETA of a retry that waits in a delay queue.
            holds_retries = any(count for name, count in ready.items() if name.startswith(DELAYED))
            self._suspects = {
                external_id: task
                for external_id, task in self._suspects.items()
                if ready.get(task.queue or "") == 0 and not (holds_retries and task.attempt > 1)
            }
            if self._suspects:
                self._asked_at = self._timers.now
                self._inspections.request_all()

    def remove(self, external_id: str) -> None:
        """Remove a job from the suspects: a worker has it."""
        self._suspects.pop(external_id, None)

    def _collect_suspects(self, now: float) -> None:
        """Suspect all jobs that have waited for long in a queue from which no worker with an agent takes."""
        self._checked_at, self._asked_at = now, None
        waiting = [task for task in self._tasks if task.is_waiting and _waits_since(task) + self._seconds < now]
        queues = {task.queue for task in waiting if task.queue}
        self.queues = frozenset(queue for queue in queues if not self._workers.may_be_reported(queue))
        self._suspects = {task.external_id: task for task in waiting if task.queue in self.queues}

    def _report_suspects(self) -> None:
        suspects, self._suspects = self._suspects, {}
        for external_id, task in suspects.items():
            is_reported = self._workers.may_be_reported(task.queue or "")  # by an agent that has answered since
            if task.is_waiting and self._tasks.get(external_id) is task and not is_reported:
                reason = f"it has left its queue {task.queue}, and no worker has reported it"
                self._recorder.record_missing(task, self._timers.now, reason)


def _waits_since(task: Task) -> float:
    last = task.last_run
    return max(task.waiting_since, last.reported_at if last else 0.0, seconds_from_iso(task.eta) or 0.0)
