"""What is said of a task's messages: that they were published, received, or turned away before anything ran."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from sys import intern
from typing import Any

from sluice_agent import agent_fields
from sluice_agent.model import JobState
from sluice_agent.monitor.bindings import Bindings
from sluice_agent.monitor.event_dates import MICROSECOND
from sluice_agent.monitor.job_reporter import JobReporter
from sluice_agent.monitor.parsing import Event, attempt_of, event_time, get_text
from sluice_agent.monitor.task_store import MessageVersion, PendingPublication, Task, message_version
from sluice_agent.monitor.timers import Timers
from sluice_agent.monitor.tracked_worker import TrackedWorker
from sluice_agent.timestamps import seconds_from_iso

_PUBLICATION_SECONDS = 1.0  # seconds: a producer's event is made after a worker may have begun; its word may follow
_RECEIPT_SECONDS = 30.0  # seconds in which a worker's agent may receive the task, and report that it has waited
_KIND_MASK = 2**30 - 1  # an integer up to this takes 16 bytes less, and there may be one for each task


class Publications:
    """Tells that a task waits: by its producer's word, which is held for a moment, else by the worker's.

    `is_reported` says whether a worker whose agent reports what it receives takes from a queue: then it is held longer.
    """

    def __init__(
        self,
        *,
        connection_id: str,
        reporter: JobReporter,
        bindings: Bindings,
        timers: Timers,
        is_reported: Callable[[str | None], bool],
    ) -> None:
        self._is_reported = is_reported
        self._connection_id = connection_id
        self._reporter = reporter
        self._bindings = bindings
        self._timers = timers
        self._producers_have_agents = False  # whether producers have agents, and send events that show it

    def on_published(self, external_id: str, task: Task, event: Event) -> None:
        """A producer has published the task, or what replaces it."""
        at = event_time(event, self._timers.now)
        attempt = attempt_of(event)
        seen, kind = _message_version(task.published, task.published_kind, attempt, event)
        if (
            task.published is not None
            and seen.replacement > task.published.replacement
            and _was_replaced(task, kind, at)
        ):
            task.published = seen  # what was heard before, whose kind stays noted, has replaced this one
            task.created = min(task.created or at, at)
            if task.pending is not None:
                first, task.pending.replacement = task.pending.replacement, seen.replacement
                self._reporter.report_waiting(external_id, task, self._publication(task, event, at, first, attempt))
            return
        task.published, task.published_kind = seen, kind
        is_first = _is_first(task, attempt, event, at)
        if attempt > 1 and not _is_from_outside(event):
            task.record_successor(seen, at, get_text(event, "eta"))
        task.queue = self._bindings.queue_of(event) or task.queue
        task.is_queue_certain = self._bindings.is_sure_of(event)
        if (
            task.waiting_replacement < 0 and task.waiting_since
        ):  # a worker's word, that it turned the task away, was faster
            at = min(at, task.waiting_since)
        if is_first and task.created is None:
            task.created = self._reported_creation(event) or at
        task.attempt = max(task.attempt, attempt)
        if task.received is None:  # else its worker has said it, and may still speak of the attempt before
            _update_task(task, event)
        if is_first and task.waiting_order < (seen.replacement, attempt):
            self._report_pending(external_id, task, at)
            if event.get(agent_fields.AGENT) == self._connection_id:  # its producer's agent has reported that it waits
                self._producers_have_agents = True
                task.waiting_replacement, task.waiting_attempt, task.waiting_since = seen.replacement, attempt, at
                return
            task.pending = pending = self._publication(task, event, at, seen.replacement, attempt)
            release = partial(self._report_pending, external_id, task, at, pending)
            if self._is_reported(task.queue):
                self._timers.call(_RECEIPT_SECONDS, release)
            else:
                self._timers.call(_PUBLICATION_SECONDS, release, is_fact=True)

    def on_received(self, external_id: str, task: Task, event: Event, worker: TrackedWorker, at: float) -> None:
        """`worker` has taken a message of the task from its queue."""
        attempt = attempt_of(event)
        is_first = _is_first(task, attempt, event, at)
        task.attempt = attempt
        task.received, task.received_kind = taken, _ = _message_version(
            task.received, task.received_kind, attempt, event
        )
        if attempt > 1 and not _is_from_outside(event) and not task.has_published(taken):
            task.record_successor(taken, at, get_text(event, "eta"))
        self._report_pending(external_id, task, at, by=worker)
        _update_task(task, event)
        task.queue = task.queue or worker.only_queue
        if not is_first or task.waiting_order >= (taken.replacement, attempt):
            return
        # When it was published it was to start later, even if that moment has come while it waited.
        state = JobState.SCHEDULED if task.eta else JobState.QUEUED
        pending = PendingPublication(
            at, task.name, state, taken.replacement, self._reporter.redacted_arguments(event), attempt
        )
        if (
            self._producers_have_agents and task.published is None
        ):  # the event of its producer, and so a mark, may follow
            report = partial(self._reporter.report_waiting, external_id, task, pending, worker.process)
            self._timers.call(_PUBLICATION_SECONDS, report, is_fact=True)
        else:
            self._reporter.report_waiting(external_id, task, pending, worker.process)

    def flush_pending(self, external_id: str, task: Task, worker: TrackedWorker, at: float) -> None:
        """A worker speaks of the task: what a producer has said of the message that it has comes before."""
        if task.pending is not None and task.pending.replacement <= task.replacement:
            self._report_pending(external_id, task, at, by=worker)

    def report_refused(
        self,
        external_id: str,
        task: Task,
        worker: TrackedWorker,
        state: JobState,
        celery_state: str,
        at: float,
        **extensions: Any,
    ) -> None:
        """`worker` will not run the task. Where nothing is known of it, its producer's word may follow."""

        def report() -> None:
            self._report_pending(external_id, task, at, by=worker)
            task.is_refused = True
            self._reporter.report_refused(external_id, task, worker.process, state, celery_state, at, **extensions)

        if task.waiting_replacement < 0:
            task.waiting_since = at - MICROSECOND
        if task.published is None and task.received is None:
            self._timers.call(_PUBLICATION_SECONDS, report, is_fact=True)
        else:
            report()

    def _reported_creation(self, event: Event) -> float | None:
        """The job's creation as its producer's agent has reported it."""
        return (
            seconds_from_iso(get_text(event, agent_fields.CREATED_AT))
            if event.get(agent_fields.AGENT) == self._connection_id
            else None
        )

    def _publication(self, task: Task, event: Event, at: float, replacement: int, attempt: int) -> PendingPublication:
        """What a producer says of the task that it has published at `at`."""
        state = JobState.SCHEDULED if (seconds_from_iso(get_text(event, "eta")) or 0.0) > at else JobState.QUEUED
        return PendingPublication(
            at,
            get_text(event, "name") or task.name,
            state,
            replacement,
            self._reporter.redacted_arguments(event),
            attempt,
        )

    def _report_pending(
        self,
        external_id: str,
        task: Task,
        before: float,
        only: PendingPublication | None = None,
        by: TrackedWorker | None = None,
    ) -> None:
        """Tell what its producer said: the task was published before a worker knew of it, whatever the clocks say.

        `by` is that worker: its agent reports that the task has waited, where the producer has none.
        """
        pending = task.pending
        if pending is None or only not in (None, pending):
            return
        task.pending = None
        pending.at = min(pending.at, before)
        task.created = min(task.created or pending.at, pending.at)
        self._reporter.report_waiting(external_id, task, pending, by.process if by else None)


def is_another_publication(task: Task, event: Event) -> bool:
    """Whether a producer that publishes a task that is over begins it anew: else it is a late event of what is over."""
    attempt = attempt_of(event)
    sent, taken = task.published, task.received
    is_late = sent is not None and taken is not None and sent.attempt < attempt <= taken.attempt
    return attempt == 1 or (_is_from_outside(event) and not is_late)


def _is_from_outside(event: Event) -> bool:
    """Whether no task has published this message: Celery makes a task the parent of all that it publishes.

    So it is of its own retries, unless it has a parent already. Task protocol 1 has no parents, and no roots either.
    """
    return get_text(event, "root_id") is not None and event.get("parent_id") is None


def _is_first(task: Task, attempt: int, event: Event, at: float) -> bool:
    """Whether this is no retry, but a message that begins the job, or begins it anew, at this attempt.

    A worker's main process publishes from outside what was to be retried when its process was lost.
    """
    if attempt == 1:
        return True
    return _is_from_outside(event) and not any(run.may_be_retried for run in task.runs_before(attempt, at))


def _update_task(task: Task, event: Event) -> None:
    task.name = intern(get_text(event, "name") or task.name)
    external_id = str(event["uuid"])
    root_id, parent_id = get_text(event, "root_id"), get_text(event, "parent_id")
    task.root_id = root_id if root_id != external_id else None
    if parent_id != external_id:  # Celery makes a job the parent of its own retry
        task.parent_id = parent_id
    task.eta, task.expires = get_text(event, "eta"), get_text(event, "expires")


def _was_replaced(task: Task, kind: int, at: float) -> bool:
    """Whether a publication that seems to replace the last one was before it: its producer is slower than a worker."""
    if task.received is not None:
        return task.received.replacement == 0 and kind == task.received_kind
    return task.pending is not None and at < task.pending.at


def _kind(message: tuple[Any, ...]) -> int:
    """A hash of texts, as Celery sends them; another client may send the values themselves."""
    try:
        return hash(message)
    except TypeError:
        return hash(repr(message))


def _message_version(
    last: MessageVersion | None, last_kind: int, attempt: int, event: Event
) -> tuple[MessageVersion, int]:
    """A message as it is seen now, and what kind it is. Another kind for no later attempt has replaced the last one."""
    kind = _kind((event.get("name"), event.get("args"), event.get("kwargs"))) & _KIND_MASK
    if last is None:
        return message_version(attempt), kind
    replaces = kind != last_kind and attempt <= last.attempt
    return message_version(attempt, last.replacement + replaces), kind
