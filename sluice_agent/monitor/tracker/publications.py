"""A task's messages: published, received, or refused before anything ran."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from sys import intern
from typing import TYPE_CHECKING, Any

from sluice_agent.lifecycle import agent_fields, transitions
from sluice_agent.lifecycle.encoding import RunDetails
from sluice_agent.lifecycle.identity import parent_of
from sluice_agent.lifecycle.timestamps import seconds_from_iso, timestamp, timestamp_from_iso
from sluice_agent.lifecycle.transitions import Transition
from sluice_agent.monitor.tracker.bindings import Bindings
from sluice_agent.monitor.tracker.event_dates import MICROSECOND
from sluice_agent.monitor.tracker.job_reporter import JobReporter
from sluice_agent.monitor.tracker.parsing import Event, attempt_of, event_time, get_text
from sluice_agent.monitor.tracker.task_store import MessageVersion, PendingPublication, Task, message_version
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.tracked_worker import TrackedWorker

if TYPE_CHECKING:
    from typing_extensions import Unpack

_PUBLICATION_SECONDS = 1.0  # a worker may begin before the producer makes its event, so that event may arrive later
_RECEIPT_SECONDS = 30.0  # in which a worker's agent may receive the task, and report that it has waited
_KIND_MASK = 2**30 - 1  # an integer up to this takes 16 bytes less, and there may be one for every task


class Publications:
    """Reports that a task waits: from its producer's event, which is held for a moment, else from the worker's.

    The event is held longer if `is_reported`: if a worker with an agent, which reports receipts, takes from the queue.
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
        self._producers_have_agents = False  # as marks in their events show

    def on_published(self, external_id: str, task: Task, event: Event) -> None:
        """Handle the event that a producer has published the task, or its replacement."""
        at = event_time(event, self._timers.now)
        attempt = attempt_of(event)
        version, kind = _message_version(task.published, task.published_kind, attempt, event)
        if (
            task.published is not None
            and version.replacement > task.published.replacement
            and _was_replaced(task, kind, at)
        ):
            # A late event: the publication received before is this one's replacement, so `published_kind` stays.
            task.published = version
            task.created = min(task.created or at, at)
            if task.pending is not None:
                first, task.pending.replacement = task.pending.replacement, version.replacement
                self._reporter.report_waiting(external_id, task, self._publication(task, event, at, first, attempt))
            return
        task.published, task.published_kind = version, kind
        is_first = _is_first(task, attempt, event, at)
        if attempt > 1 and not _is_from_outside(event):
            task.record_successor(version, at, get_text(event, "eta"))
        task.queue = self._bindings.queue_of(event) or task.queue
        task.is_queue_certain = self._bindings.is_sure_of(event)
        if task.waiting_replacement < 0 and task.waiting_since:
            # The event of a worker that has refused the task arrived before.
            at = min(at, task.waiting_since)
        if is_first and task.created is None:
            task.created = self._reported_creation(event) or at
        task.attempt = max(task.attempt, attempt)
        if task.received is None:  # else its worker's event was used, and events of the previous attempt may follow
            _update_task(task, event)
        if is_first and task.waiting_order < (version.replacement, attempt):
            self._report_pending(external_id, task, at)
            if event.get(agent_fields.AGENT) == self._connection_id:  # its producer's agent has reported that it waits
                self._producers_have_agents = True
                task.waiting_replacement, task.waiting_attempt, task.waiting_since = version.replacement, attempt, at
                return
            task.pending = pending = self._publication(task, event, at, version.replacement, attempt)
            report = partial(self._report_pending, external_id, task, at, pending)
            if self._is_reported(task.queue):
                self._timers.call(_RECEIPT_SECONDS, report)
            else:
                self._timers.call(_PUBLICATION_SECONDS, report, is_fact=True)

    def on_received(self, external_id: str, task: Task, event: Event, worker: TrackedWorker, at: float) -> None:
        """Handle the event that `worker` has received a message of the task."""
        attempt = attempt_of(event)
        is_first = _is_first(task, attempt, event, at)
        task.attempt = attempt
        task.received, task.received_kind = version, _ = _message_version(
            task.received, task.received_kind, attempt, event
        )
        if attempt > 1 and not _is_from_outside(event) and not task.has_published(version):
            task.record_successor(version, at, get_text(event, "eta"))
        self._report_pending(external_id, task, at, worker=worker)
        _update_task(task, event)
        task.queue = task.queue or worker.only_queue
        if not is_first or task.waiting_order >= (version.replacement, attempt):
            return
        # It was published to start later, even if its ETA has passed while it waited.
        transition = transitions.waiting(timestamp_from_iso(task.eta))
        pending = PendingPublication(
            at, task.name, transition, version.replacement, self._reporter.redacted_arguments(event), attempt
        )
        if self._producers_have_agents and task.published is None:
            # Its producer's event, with the mark of an agent, may follow.
            report = partial(self._reporter.report_waiting, external_id, task, pending, worker.process)
            self._timers.call(_PUBLICATION_SECONDS, report, is_fact=True)
        else:
            self._reporter.report_waiting(external_id, task, pending, worker.process)

    def flush_pending(self, external_id: str, task: Task, worker: TrackedWorker, at: float) -> None:
        """Report the pending publication, if any, before an event of the worker that has received its message."""
        if task.pending is not None and task.pending.replacement <= task.replacement:
            self._report_pending(external_id, task, at, worker=worker)

    def report_refused(
        self,
        external_id: str,
        task: Task,
        worker: TrackedWorker,
        transition: Transition,
        at: float,
        **details: Unpack[RunDetails],
    ) -> None:
        """Report that `worker` has refused the task. If no event named the task before, its producer's may follow."""

        def report() -> None:
            self._report_pending(external_id, task, at, worker=worker)
            task.is_refused = True
            self._reporter.report_refused(external_id, task, worker.process, transition, at, **details)

        if task.waiting_replacement < 0:
            task.waiting_since = at - MICROSECOND
        if task.published is None and task.received is None:
            self._timers.call(_PUBLICATION_SECONDS, report, is_fact=True)
        else:
            report()

    def _reported_creation(self, event: Event) -> float | None:
        """Return the job's creation as its producer's agent has reported it, if any."""
        return (
            seconds_from_iso(get_text(event, agent_fields.CREATED_AT))
            if event.get(agent_fields.AGENT) == self._connection_id
            else None
        )

    def _publication(self, task: Task, event: Event, at: float, replacement: int, attempt: int) -> PendingPublication:
        """Return the publication of the task at `at` that a producer's event describes."""
        eta = timestamp_from_iso(get_text(event, "eta"))
        return PendingPublication(
            at,
            get_text(event, "name") or task.name,
            transitions.waiting(eta, timestamp(at) if eta else None),
            replacement,
            self._reporter.redacted_arguments(event),
            attempt,
        )

    def _report_pending(
        self,
        external_id: str,
        task: Task,
        latest: float,
        only: PendingPublication | None = None,
        worker: TrackedWorker | None = None,
    ) -> None:
        """Report the pending publication, at `latest` or before: a task is published before a worker receives it.

        The agent of `worker`, which has received it, reports that the task has waited where the producer has none.
        """
        pending = task.pending
        if pending is None or only not in (None, pending):
            return
        task.pending = None
        pending.at = min(pending.at, latest)
        task.created = min(task.created or pending.at, pending.at)
        self._reporter.report_waiting(external_id, task, pending, worker.process if worker else None)


def is_another_publication(task: Task, event: Event) -> bool:
    """Return whether a publication of a task that is over begins a new job; else it is a late event of the old one."""
    attempt = attempt_of(event)
    published, received = task.published, task.received
    is_late = published is not None and received is not None and published.attempt < attempt <= received.attempt
    return attempt == 1 or (_is_from_outside(event) and not is_late)


def _is_from_outside(event: Event) -> bool:
    """Return whether no task has published this message: Celery makes a task the parent of all that it publishes.

    A task is the parent of its own retries too, unless it has one. Task protocol 1 has no parents, and no roots either.
    """
    return get_text(event, "root_id") is not None and event.get("parent_id") is None


def _is_first(task: Task, attempt: int, event: Event, at: float) -> bool:
    """Return whether this message is no retry, but begins the job, for the first time or again, at this attempt.

    A worker's main process publishes the retry of a job whose task process was lost, from outside of any task.
    """
    if attempt == 1:
        return True
    return _is_from_outside(event) and not any(run.may_be_retried for run in task.runs_before(attempt, at))


def _update_task(task: Task, event: Event) -> None:
    task.name = intern(get_text(event, "name") or task.name)
    external_id = str(event["uuid"])
    root_id, parent_id = get_text(event, "root_id"), get_text(event, "parent_id")
    task.root_id = root_id if root_id != external_id else None
    parent = parent_of(external_id, parent_id)
    if parent or not parent_id:  # else it is a retry: the parent is the one of the first attempt
        task.parent_id = parent
    task.eta, task.expires = get_text(event, "eta"), get_text(event, "expires")


def _was_replaced(task: Task, kind: int, at: float) -> bool:
    """Return whether a publication that seems to replace the last one came before it: its producer is slower."""
    if task.received is not None:
        return task.received.replacement == 0 and kind == task.received_kind
    return task.pending is not None and at < task.pending.at


def _kind(message: tuple[Any, ...]) -> int:
    """Return a hash of the fields: texts, as Celery sends them, or the values themselves, from another client."""
    try:
        return hash(message)
    except TypeError:
        return hash(repr(message))


def _message_version(
    last: MessageVersion | None, last_kind: int, attempt: int, event: Event
) -> tuple[MessageVersion, int]:
    """Return the version and the kind of a message. Another kind for no later attempt replaces the last message."""
    kind = _kind((event.get("name"), event.get("args"), event.get("kwargs"))) & _KIND_MASK
    if last is None:
        return message_version(attempt), kind
    replaces = kind != last_kind and attempt <= last.attempt
    return message_version(attempt, last.replacement + replaces), kind
