"""A task's messages: published, received, or refused before anything ran."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from sys import intern
from typing import TYPE_CHECKING, Any

from sluice_agent.lifecycle import agent_fields, transitions
from sluice_agent.lifecycle.encoding import RunDetails
from sluice_agent.lifecycle.identity import parent_of
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import seconds_from_iso, timestamp, timestamp_from_iso
from sluice_agent.lifecycle.transitions import Transition
from sluice_agent.monitor.tracker.bindings import Bindings
from sluice_agent.monitor.tracker.event_dates import MICROSECOND
from sluice_agent.monitor.tracker.parsing import Event, attempt_of, event_time, get_text
from sluice_agent.monitor.tracker.recorder import Recorder
from sluice_agent.monitor.tracker.tasks import MessageVersion, Publication, Task, message_version
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.worker_store import TrackedWorker, WorkerStore

if TYPE_CHECKING:
    from typing_extensions import Unpack

_PUBLICATION_SECONDS = 1.0  # a worker may begin before the producer makes its event, so that event may arrive later
_RECEIPT_SECONDS = 30.0  # in which a worker's agent may receive the task, and report that it has waited
_NO_ARGUMENTS: Mapping[str, Any] = {}
_KIND_MASK = 2**30 - 1  # an integer up to this takes 16 bytes less, and there may be one for every task


class Publications:
    """Reports that a task waits: from its producer's event, which is held for a moment, else from the worker's.

    The event is held longer if a worker with an agent, which reports receipts, takes from the queue.
    """

    def __init__(
        self, *, sink: Sink, recorder: Recorder, workers: WorkerStore, bindings: Bindings, timers: Timers
    ) -> None:
        self._sink = sink
        self._recorder = recorder
        self._workers = workers
        self._bindings = bindings
        self._timers = timers
        self._producers_have_agents = False  # as marks in their events show

    def on_published(self, task: Task, event: Event) -> None:
        """Handle the event that a producer has published the task, or its replacement."""
        at = event_time(event, self._timers.now)
        attempt = attempt_of(event)
        version, kind = _message_version(task.published, task.published_kind, attempt, event)
        if _was_replaced(task, version, kind, at):
            self._insert_publication(task, event, version, at)
            return
        task.published, task.published_kind = version, kind
        is_first = _is_first(task, attempt, event, at)
        if attempt > 1 and not _is_from_outside(event):
            task.record_successor(version, at, get_text(event, "eta"))
        task.queue = self._bindings.learn_queue_of(event) or task.queue
        task.is_queue_certain = self._bindings.is_sure_of(event)
        if task.waiting_since and not task.is_wait_reported:
            # The event of a worker that has refused the task arrived before.
            at = min(at, task.waiting_since)
        if is_first and task.created is None:
            task.created = self._reported_creation(event) or at
        task.expect_attempt(attempt)
        if task.received is None:  # else its worker's event was used, and events of the previous attempt may follow
            _update_task(task, event)
        if is_first and task.waiting_version < version:
            self._report_pending(task, at)
            if self._is_from_agent(event):  # which has reported that it waits
                self._producers_have_agents = True
                task.record_wait(version, at)
            else:
                self._hold(task, self._publication(task, event, at, version))

    def _insert_publication(self, task: Task, event: Event, version: MessageVersion, at: float) -> None:
        """Handle a late event: the publication received before is this one's replacement, so `published_kind` stays."""
        task.published = version
        task.created = min(task.created or at, at)
        if (pending := task.pending) is not None:
            first = message_version(pending.version.replacement, version.attempt)
            pending.version = message_version(version.replacement, pending.version.attempt)
            self._recorder.record_waiting(task, self._publication(task, event, at, first))

    def on_received(self, task: Task, event: Event, worker: TrackedWorker, at: float) -> None:
        """Handle the event that `worker` has received a message of the task."""
        attempt = attempt_of(event)
        is_first = _is_first(task, attempt, event, at)
        task.attempt = attempt
        task.received, task.received_kind = version, _ = _message_version(
            task.received, task.received_kind, attempt, event
        )
        if attempt > 1 and not _is_from_outside(event) and not task.has_published(version):
            task.record_successor(version, at, get_text(event, "eta"))
        if task.pending is not None:
            self._report_pending(task, at, worker=worker)
        _update_task(task, event)
        task.queue = task.queue or worker.only_queue
        if not is_first or task.waiting_version >= version:
            return
        # It was published to start later, even if its ETA has passed while it waited.
        transition = transitions.waiting(timestamp_from_iso(task.eta)) if task.eta else transitions.QUEUED
        publication = Publication(version, at, task.name, transition, self._arguments(event))
        if self._producers_have_agents and task.published is None:
            # Its producer's event, with the mark of an agent, may follow.
            report = partial(self._recorder.record_waiting, task, publication, worker)
            self._timers.report_after(_PUBLICATION_SECONDS, report)
        else:
            self._recorder.record_waiting(task, publication, worker)

    def on_plain_receipt(self, task: Task, event: Event, worker: TrackedWorker, at: float) -> bool:
        """Handle what `on_received` does, and add the run, if it is a plain one of a task that was not known before.

        Most are. Else return False, and leave the task as it is.
        """
        get = event.get
        name, root_id = get("name"), get("root_id")
        if (
            get("retries")
            or get("parent_id")
            or get("eta")
            or get("expires")
            or type(name) is not str
            or self._sink.redact is not None
            or self._producers_have_agents
            or not self._recorder.record_plain_receipt(task, worker, name, root_id, at)
        ):
            return False
        task.received_kind = _kind((name, get("args"), get("kwargs"))) & _KIND_MASK
        return True

    def on_worker_event(self, task: Task, pending: Publication, worker: TrackedWorker, at: float) -> None:
        """Report the `pending` publication before an event of the worker that has received its message."""
        if pending.version.replacement <= task.replacement:
            self._report_pending(task, at, worker=worker)

    def on_refused(
        self, task: Task, worker: TrackedWorker, transition: Transition, at: float, **details: Unpack[RunDetails]
    ) -> None:
        """Report that `worker` has refused the task. If no event named the task before, its producer's may follow."""

        def report() -> None:
            self._report_pending(task, at, worker=worker)
            self._recorder.record_refused(task, worker, transition, at, **details)

        if not task.is_wait_reported:
            task.waiting_since = at - MICROSECOND
        if task.published is None and task.received is None:
            self._timers.report_after(_PUBLICATION_SECONDS, report)
        else:
            report()

    def _hold(self, task: Task, publication: Publication) -> None:
        """Hold `publication`: a worker's event, or that of its agent, has more detail, and may follow."""
        task.pending = publication
        report = partial(self._report_pending, task, publication.at, publication)
        if self._workers.is_reported(task.queue):
            self._timers.infer_after(_RECEIPT_SECONDS, report)
        else:
            self._timers.report_after(_PUBLICATION_SECONDS, report)

    def _is_from_agent(self, event: Event) -> bool:
        """Return whether the producer of this event has an agent that reports to the same connection."""
        return event.get(agent_fields.AGENT) == self._sink.connection_id

    def _arguments(self, event: Event) -> Mapping[str, Any]:
        """Return the arguments to report: none, or what the hook returns for them."""
        redact = self._sink.redact
        return {name: redact(name, event.get(name)) for name in ("args", "kwargs")} if redact else _NO_ARGUMENTS

    def _reported_creation(self, event: Event) -> float | None:
        """Return the job's creation as its producer's agent has reported it, if any."""
        is_from_agent = self._is_from_agent(event)
        return seconds_from_iso(get_text(event, agent_fields.CREATED_AT)) if is_from_agent else None

    def _publication(self, task: Task, event: Event, at: float, version: MessageVersion) -> Publication:
        """Return the publication of the task at `at` that a producer's event describes."""
        eta = timestamp_from_iso(get_text(event, "eta"))
        transition = transitions.waiting(eta, timestamp(at) if eta else None)
        return Publication(version, at, get_text(event, "name") or task.name, transition, self._arguments(event))

    def _report_pending(
        self, task: Task, latest: float, only: Publication | None = None, worker: TrackedWorker | None = None
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
        self._recorder.record_waiting(task, pending, worker)


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
    external_id = task.external_id
    root_id, parent_id = get_text(event, "root_id"), get_text(event, "parent_id")
    task.root_id = root_id if root_id != external_id else None
    parent = parent_of(external_id, parent_id)
    if parent or not parent_id:  # else it is a retry: the parent is the one of the first attempt
        task.parent_id = parent
    task.eta, task.expires = get_text(event, "eta"), get_text(event, "expires")


def _was_replaced(task: Task, version: MessageVersion, kind: int, at: float) -> bool:
    """Return whether a publication that seems to replace the last one came before it: its producer is slower."""
    if task.published is None or version.replacement <= task.published.replacement:
        return False
    if task.received is not None:
        return task.received.replacement == 0 and kind == task.received_kind
    pending = task.pending
    return pending is not None and at < pending.at


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
        return message_version(0, attempt), kind
    replaces = kind != last_kind and attempt <= last.attempt
    return message_version(last.replacement + replaces, attempt), kind
