"""What is said of a task's messages: that they were published, received, or turned away before anything ran."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from sys import intern
from typing import Any

from sluice_agent import speaker
from sluice_agent.model import JobState
from sluice_agent.monitor.bindings import Bindings
from sluice_agent.monitor.events import Event, attempt_of, moment, text
from sluice_agent.monitor.later import Later
from sluice_agent.monitor.memory import Held, Task, Turn, turn
from sluice_agent.monitor.order import MICROSECOND
from sluice_agent.monitor.telling import Telling
from sluice_agent.monitor.view import WorkerView
from sluice_agent.translation import moment_of

_PUBLICATION_HOLDS = 1.0  # seconds: a producer's event is made after a worker may have begun; its word may follow
_RECEIPT_HOLDS = 30.0  # seconds in which a worker's agent may receive the task, and report that it has waited
_SMALL = 2**30 - 1  # an integer up to this takes 16 bytes less, and there may be one for each task


class Messages:
    """Tells that a task waits: by its producer's word, which is held for a moment, else by the worker's.

    `is_reported` says whether a worker whose agent reports what it receives takes from a queue: then it is held longer.
    """

    def __init__(
        self,
        *,
        connection_id: str,
        telling: Telling,
        bindings: Bindings,
        later: Later,
        is_reported: Callable[[str | None], bool],
    ) -> None:
        self._is_reported = is_reported
        self._connection_id = connection_id
        self._telling = telling
        self._bindings = bindings
        self._later = later
        self._marks_are_seen = False  # whether producers have agents, and send events that show it

    def sent(self, external_id: str, task: Task, event: Event) -> None:
        """A producer has published the task, or what replaces it."""
        at = moment(event, self._later.now)
        attempt = attempt_of(event)
        seen, kind = _seen(task.sent, task.sent_kind, attempt, event)
        if task.sent is not None and seen.nesting > task.sent.nesting and _was_replaced(task, kind, at):
            task.sent = seen  # what was heard before, whose kind stays noted, has replaced this one
            task.created = min(task.created or at, at)
            if task.held is not None:
                first, task.held.nesting = task.held.nesting, seen.nesting
                self._telling.waiting(external_id, task, self._publication(task, event, at, first, attempt))
            return
        task.sent, task.sent_kind = seen, kind
        is_first = _is_first(task, attempt, event, at)
        if attempt > 1 and not _is_from_outside(event):
            task.publishes(seen, at, text(event, "eta"))
        task.queue = self._bindings.queue_of(event) or task.queue
        task.is_placed = self._bindings.is_sure_of(event)
        if task.told_waiting < 0 and task.waiting_since:  # a worker's word, that it turned the task away, was faster
            at = min(at, task.waiting_since)
        if is_first and task.created is None:
            task.created = self._reported_creation(event) or at
        task.attempt = max(task.attempt, attempt)
        if task.taken is None:  # else its worker has said it, and may still speak of the attempt before
            _learn(task, event)
        if is_first and task.waiting_place < (seen.nesting, attempt):
            self._release(external_id, task, at)
            if event.get(speaker.FIELD) == self._connection_id:  # its producer's agent has reported that it waits
                self._marks_are_seen = True
                task.told_waiting, task.waiting_attempt, task.waiting_since = seen.nesting, attempt, at
                return
            task.held = held = self._publication(task, event, at, seen.nesting, attempt)
            release = partial(self._release, external_id, task, at, held)
            if self._is_reported(task.queue):
                self._later.call(_RECEIPT_HOLDS, release)
            else:
                self._later.call(_PUBLICATION_HOLDS, release, is_known=True)

    def received(self, external_id: str, task: Task, event: Event, worker: WorkerView, at: float) -> None:
        """`worker` has taken a message of the task from its queue."""
        attempt = attempt_of(event)
        is_first = _is_first(task, attempt, event, at)
        task.attempt = attempt
        task.taken, task.taken_kind = taken, _ = _seen(task.taken, task.taken_kind, attempt, event)
        if attempt > 1 and not _is_from_outside(event) and not task.has_published(taken):
            task.publishes(taken, at, text(event, "eta"))
        self._release(external_id, task, at, by=worker)
        _learn(task, event)
        task.queue = task.queue or worker.only_queue
        if not is_first or task.waiting_place >= (taken.nesting, attempt):
            return
        # When it was published it was to start later, even if that moment has come while it waited.
        state = JobState.SCHEDULED if task.eta else JobState.QUEUED
        held = Held(at, task.name, state, taken.nesting, self._telling.arguments(event), attempt)
        if self._marks_are_seen and task.sent is None:  # the event of its producer, and so a mark, may follow
            tell = partial(self._telling.waiting, external_id, task, held, worker.process)
            self._later.call(_PUBLICATION_HOLDS, tell, is_known=True)
        else:
            self._telling.waiting(external_id, task, held, worker.process)

    def settle(self, external_id: str, task: Task, worker: WorkerView, at: float) -> None:
        """A worker speaks of the task: what a producer has said of the message that it has comes before."""
        if task.held is not None and task.held.nesting <= task.nesting:
            self._release(external_id, task, at, by=worker)

    def turned_away(
        self,
        external_id: str,
        task: Task,
        worker: WorkerView,
        state: JobState,
        celery_state: str,
        at: float,
        **about: Any,
    ) -> None:
        """`worker` will not run the task. Where nothing is known of it, its producer's word may follow."""

        def tell() -> None:
            self._release(external_id, task, at, by=worker)
            task.is_refused = True
            self._telling.turned_away(external_id, task, worker.process, state, celery_state, at, **about)

        if task.told_waiting < 0:
            task.waiting_since = at - MICROSECOND
        if task.sent is None and task.taken is None:
            self._later.call(_PUBLICATION_HOLDS, tell, is_known=True)
        else:
            tell()

    def _reported_creation(self, event: Event) -> float | None:
        """The job's creation as its producer's agent has reported it."""
        return moment_of(text(event, speaker.CREATED_AT)) if event.get(speaker.FIELD) == self._connection_id else None

    def _publication(self, task: Task, event: Event, at: float, nesting: int, attempt: int) -> Held:
        """What a producer says of the task that it has published at `at`."""
        state = JobState.SCHEDULED if (moment_of(text(event, "eta")) or 0.0) > at else JobState.QUEUED
        return Held(at, text(event, "name") or task.name, state, nesting, self._telling.arguments(event), attempt)

    def _release(
        self,
        external_id: str,
        task: Task,
        before: float,
        only: Held | None = None,
        by: WorkerView | None = None,
    ) -> None:
        """Tell what its producer said: the task was published before a worker knew of it, whatever the clocks say.

        `by` is that worker: its agent reports that the task has waited, where the producer has none.
        """
        held = task.held
        if held is None or only not in (None, held):
            return
        task.held = None
        held.at = min(held.at, before)
        task.created = min(task.created or held.at, held.at)
        self._telling.waiting(external_id, task, held, by.process if by else None)


def is_another_publication(task: Task, event: Event) -> bool:
    """Whether a producer that publishes a task that is over begins it anew: else it is a late event of what is over."""
    attempt = attempt_of(event)
    sent, taken = task.sent, task.taken
    is_late = sent is not None and taken is not None and sent.attempt < attempt <= taken.attempt
    return attempt == 1 or (_is_from_outside(event) and not is_late)


def _is_from_outside(event: Event) -> bool:
    """Whether no task has published this message: Celery makes a task the parent of all that it publishes.

    So it is of its own retries, unless it has a parent already. Task protocol 1 has no parents, and no roots either.
    """
    return text(event, "root_id") is not None and event.get("parent_id") is None


def _is_first(task: Task, attempt: int, event: Event, at: float) -> bool:
    """Whether this is no retry, but a message that begins the job, or begins it anew, at this attempt.

    A worker's main process publishes from outside what was to be retried when its process was lost.
    """
    if attempt == 1:
        return True
    return _is_from_outside(event) and not any(run.may_be_retried for run in task.runs_before(attempt, at))


def _learn(task: Task, event: Event) -> None:
    task.name = intern(text(event, "name") or task.name)
    external_id = str(event["uuid"])
    root_id, parent_id = text(event, "root_id"), text(event, "parent_id")
    task.root_id = root_id if root_id != external_id else None
    if parent_id != external_id:  # Celery makes a job the parent of its own retry
        task.parent_id = parent_id
    task.eta, task.expires = text(event, "eta"), text(event, "expires")


def _was_replaced(task: Task, kind: int, at: float) -> bool:
    """Whether a publication that seems to replace the last one was before it: its producer is slower than a worker."""
    if task.taken is not None:
        return task.taken.nesting == 0 and kind == task.taken_kind
    return task.held is not None and at < task.held.at


def _kind(message: tuple[Any, ...]) -> int:
    """A hash of texts, as Celery sends them; another client may send the values themselves."""
    try:
        return hash(message)
    except TypeError:
        return hash(repr(message))


def _seen(last: Turn | None, last_kind: int, attempt: int, event: Event) -> tuple[Turn, int]:
    """A message as it is seen now, and what kind it is. Another kind for no later attempt has replaced the last one."""
    kind = _kind((event.get("name"), event.get("args"), event.get("kwargs"))) & _SMALL
    if last is None:
        return turn(attempt), kind
    replaces = kind != last_kind and attempt <= last.attempt
    return turn(attempt, last.nesting + replaces), kind
