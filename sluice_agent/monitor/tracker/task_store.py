"""The store of the tasks seen last: their number is bounded, and each of them in bytes.

A task whose events were all received takes about BYTES_PER_TASK bytes, and BYTES_PER_ENDED_TASK once it has ended and
many others have followed (tests/unit/monitor/tracker/test_task_store.py measures both).
"""

from __future__ import annotations

import marshal
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain, islice
from struct import Struct
from typing import Any

from sluice_agent.model import JobState
from sluice_agent.monitor.tracker.tasks import NO_VERSION, Run, Task

BYTES_PER_TASK = 1_100
"""Bytes of memory for each task that is remembered, as measured, rounded up."""

BYTES_PER_ENDED_TASK = 450
"""The same of most tasks that have ended."""

RECENT = 4_096
"""Number of tasks that are kept as they are: more events of them are likely."""

_FORGOTTEN_AT_ONCE = 128  # of so many tasks one: a dict finds its first key slowly where others before it were removed
_MIN_SHARED = 1_000  # values that packed tasks share, before those are removed that none has any more
_NUMBERS = Struct("<3L6d")  # the numbers of a packed task: see `TaskStore._packed`
_Shared = tuple[Any, ...]
_ENDS = frozenset(state for state in JobState if state.is_final)


class TaskStore:
    """The tasks by id. The one without an event for longest is forgotten first; a live one is passed to `on_forget`.

    Of `max_tasks`, the `recent` ones are objects. Among the others, those that have ended are packed as bytes, until an
    event names them again. What refers to a task must not change it once it has ended: it may be packed meanwhile.
    """

    def __init__(self, max_tasks: int, on_forget: Callable[[Task], None], recent: int = RECENT) -> None:
        self._on_forget = on_forget
        self._max_recent = min(recent, max_tasks)
        self._max_older = max_tasks - self._max_recent
        self._forgotten_at_once = max(max_tasks // _FORGOTTEN_AT_ONCE, 1)
        self._recent: OrderedDict[str, Task] = OrderedDict()
        self._older: dict[str, Task | bytes] = {}
        self._shared: dict[int, _Shared] = {}
        self._shared_numbers: dict[_Shared, int] = {}
        self._next_shared = 0
        self._max_shared = _MIN_SHARED

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def __iter__(self) -> Iterator[Task]:
        """Iterate over all tasks but those that are packed."""
        return (task for task in chain(self._older.values(), self._recent.values()) if not isinstance(task, bytes))

    def get(self, external_id: str) -> Task | None:
        """Return the task, if it is known."""
        task: Task | bytes | None = self._recent.get(external_id) or self._older.get(external_id)
        if isinstance(task, bytes):
            self._older[external_id] = task = self._unpacked(external_id, task)
        return task

    def renew(self, last: Task, attempt: int, at: float) -> Task:
        """Replace a task that is over by the one that is published at `at` under the same id, and return that.

        Where it is the first to go on with a later attempt, that number distinguishes it from the one before.
        """
        external_id = last.external_id
        is_distinct = attempt > last.attempt and not last.publication
        publication = "" if is_distinct else f"@{at:.6f}"
        task = Task(external_id, publication=publication, previous_reported_at=last.reported_at)
        self._recent[external_id] = task  # its event, which is being processed, has made the last one recent
        return task

    def get_or_create(self, external_id: str) -> Task:
        """Return the task, a new one if it is not known. From now on it is the last to be forgotten."""
        return self.recall(external_id) or self.add(external_id)

    def recall(self, external_id: str) -> Task | None:
        """Return the task, if it is known. From now on it is the last to be forgotten."""
        task = self._recent.get(external_id)
        if task is not None:
            self._recent.move_to_end(external_id)
            return task
        older = self._older.pop(external_id, None)
        if older is None:
            return None
        return self._add_recent(self._unpacked(external_id, older) if isinstance(older, bytes) else older)

    def add(self, external_id: str) -> Task:
        """Add and return a task that is not known."""
        return self._add_recent(Task(external_id))

    def _add_recent(self, task: Task) -> Task:
        if len(self._recent) >= self._max_recent:
            self._make_room()
        self._recent[task.external_id] = task
        return task

    def _make_room(self) -> None:
        """Move the least recent task to the older ones, and forget the oldest of those if they are too many."""
        external_id, task = self._recent.popitem(last=False)
        self._older[external_id] = self._packed(task)
        if len(self._older) <= self._max_older:
            return
        for oldest_id in list(islice(self._older, self._forgotten_at_once)):
            oldest = self._older.pop(oldest_id)
            if not isinstance(oldest, bytes):
                self._on_forget(oldest)

    def _packed(self, task: Task) -> Task | bytes:
        """Return the task as bytes if it has ended, in one run as most do; else the task itself."""
        run = task.last_run
        if (
            run is None
            or run.state not in _ENDS
            or run.previous is not None
            or task.waiting_version is NO_VERSION
            or task.pending is not None
            or task.successor is not None
            or task.publication
            or task.previous_reported_at
        ):
            return task
        shared = (
            *(task.name, task.queue, task.attempt, task.priority, task.published, task.received, task.waiting_version),
            *(task.is_queue_certain, task.is_missing, task.is_refused),
            *(run.worker, run.attempt, run.receipt, run.redelivered, run.replacement, run.task_name, run.state),
            *(run.is_unconfirmed, run.is_attempt_known),
        )
        number = self._shared_numbers.get(shared)
        if number is None:
            number = self._add_shared(shared)
        packed = _NUMBERS.pack(
            number,
            task.published_kind,
            task.received_kind,
            task.waiting_since,
            run.reported_started,
            run.reported_at,
            task.created or 0.0,
            run.received or 0.0,
            run.started or 0.0,
        )
        if task.root_id or task.parent_id or task.eta or task.expires:
            packed += marshal.dumps((task.root_id, task.parent_id, task.eta, task.expires))
        return packed

    def _unpacked(self, external_id: str, packed: bytes) -> Task:
        """Return the task that `_packed` has returned as `packed`."""
        numbers = _NUMBERS.unpack_from(packed)
        shared, task = self._shared[numbers[0]], Task(external_id)
        (task.name, task.queue, task.attempt, task.priority, task.published, task.received) = shared[:6]
        (task.waiting_version, task.is_queue_certain, task.is_missing, task.is_refused) = shared[6:10]
        (worker, attempt, receipt, redelivered, replacement, task_name, state) = shared[10:17]
        (task.published_kind, task.received_kind, task.waiting_since) = numbers[1:4]
        (reported_started, reported_at, created, received, started) = numbers[4:]
        task.created = created or None
        if len(packed) > _NUMBERS.size:
            texts = marshal.loads(packed[_NUMBERS.size :])  # noqa: S302 - made by `_packed`, in this process
            task.root_id, task.parent_id, task.eta, task.expires = texts
        task.last_run = run = Run(worker, attempt, receipt, redelivered, replacement, task_name, state=state)
        run.received, run.started = received or None, started or None
        run.reported_started, run.reported_at = reported_started, reported_at
        run.is_unconfirmed, run.is_attempt_known = shared[17:]
        return task

    def _add_shared(self, shared: _Shared) -> int:
        if len(self._shared) >= self._max_shared:  # names of workers come and go
            used = {_NUMBERS.unpack_from(task)[0] for task in self._older.values() if isinstance(task, bytes)}
            self._shared = {number: values for number, values in self._shared.items() if number in used}
            self._shared_numbers = {values: number for number, values in self._shared.items()}
            self._max_shared = max(2 * len(self._shared), _MIN_SHARED)
        number = self._next_shared
        self._next_shared += 1
        self._shared[number], self._shared_numbers[shared] = shared, number
        return number
