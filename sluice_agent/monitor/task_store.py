"""What is known of the tasks that were seen last: broker events after `task-received` carry no more than an id.

Bounded by a number of tasks. One that is known by all its events takes about BYTES_PER_TASK bytes
(tests/unit/monitor/test_task_store.py measures it).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from sluice_agent.identity import run_of
from sluice_agent.model import JobState

BYTES_PER_TASK = 1_050
"""Bytes of memory for each task that is remembered, as measured, rounded up."""

_WAITING_AGAIN = (JobState.QUEUED, JobState.RETRYING)
_VERDICTS = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
_MAX_RUNS = 8  # runs of one task that are told apart: more are the redeliveries of a broken set-up


class Process(NamedTuple):
    """A worker's main process: its node name, and its number on its host."""

    hostname: str
    pid: int


@dataclass(slots=True, eq=False)
class Run:
    """One execution of one attempt of a task by one worker process, or the receipt of one that is to begin."""

    worker: Process
    attempt: int
    receipt: int
    redelivered: bool
    replacement: int
    task_name: str = ""
    """As it was received: the task may have been replaced by another before this run is said to have begun."""
    received: float | None = None
    started: float | None = None
    state: JobState | None = None
    """What was told of it last; None: that it was received."""
    reported_started: float = 0.0
    """When it was reported to have started, which may be later than its worker's clock says; 0: not reported yet."""
    reported_at: float = 0.0
    """The latest time that was reported of it; 0: none."""
    is_unconfirmed: bool = False
    """Whether it is known from an inspection alone, which does not say which attempt it is; its end is an event."""
    is_attempt_known: bool = True
    """Whether an event has named its attempt, or that of a message that it was made of or has published."""
    earlier: Run | None = None
    """The one before: a chain, as most tasks have one run, and a tuple around it takes half as much as itself."""

    @property
    def name(self) -> str:
        """What separates it from other executions: see `identity.run_of`."""
        name = run_of(*self.worker, self.receipt, self.redelivered)
        return f"{name}+{self.replacement}" if self.replacement else name

    @property
    def order(self) -> tuple[int, int]:
        """Its place among the runs of a task that ends well: each replacement counts its attempts anew."""
        return self.replacement, self.attempt

    @property
    def has_begun(self) -> bool:
        """Whether it is under way, as an event or an inspection has said."""
        return self.state is JobState.ACTIVE or (
            self.state is None and self.is_unconfirmed and self.started is not None
        )

    @property
    def is_live(self) -> bool:
        """Whether its end is still to come, as far as anybody knows."""
        return self.state is None or self.state is JobState.ACTIVE or self.state is JobState.UNKNOWN

    @property
    def may_be_retried(self) -> bool:
        """Whether a later attempt may be its own: it is under way, or was retried."""
        return self.state is None or self.state is JobState.ACTIVE or self.state is JobState.RETRYING


class MessageVersion(NamedTuple):
    """Which of a task's messages one is: for which attempt, and how often the task had replaced itself by then."""

    attempt: int
    replacement: int = 0


message_version = lru_cache(1_024)(MessageVersion)
"""The same `MessageVersion` for all tasks: for most there is only one."""


@dataclass(slots=True, eq=False)
class PendingPublication:
    """A publication: when, of which task, whether it waits for a time to come, and the arguments to be told."""

    at: float
    name: str
    state: JobState
    replacement: int
    arguments: Mapping[str, Any]
    attempt: int = 1

    @property
    def order(self) -> tuple[int, int]:
        """The place of the run that it waits for: see `Run.place`."""
        return self.replacement, self.attempt


@dataclass(slots=True, eq=False)
class Successor:
    """The message of a later attempt, which an attempt of the same task has published."""

    attempt: int
    replacement: int
    at: float
    eta: str | None
    publisher: Run | None
    """The run that has published it; None: not known yet."""


@dataclass(slots=True, eq=False)
class Task:
    """What is known of one task; times are seconds of the epoch."""

    name: str = ""
    queue: str | None = None
    attempt: int = 1
    """The last one that was published or received."""
    root_id: str | None = None
    """None where it is the task's own id."""
    parent_id: str | None = None
    eta: str | None = None
    expires: str | None = None
    priority: int | None = None
    created: float | None = None
    published: MessageVersion | None = None
    """What was published last, as its producer told it."""
    published_kind: int = 0
    """A hash of the name and the arguments of that."""
    received: MessageVersion | None = None
    """What was received last, as its worker told it: of a task with two names these two say one each."""
    received_kind: int = 0
    publication: str = ""
    """What separates it from the ones before it under its id, which had ended; empty for the first."""
    is_queue_certain: bool = False
    """Whether it is sure that its message was put into its queue."""
    is_missing: bool = False
    """Whether it was reported that it is in its queue no more, and with no worker."""
    is_refused: bool = False
    """Whether a worker has turned its message away for good: nothing of it waits or will run."""
    previous_reported_at: float = 0.0
    """The latest time that was reported of those; 0: none."""
    pending: PendingPublication | None = None
    """What is still to be told of its publication."""
    waiting_replacement: int = -1
    """The nesting for which it was told that the task waits to be run for the first time."""
    waiting_attempt: int = 1
    """The attempt for which it was, which is a later one where its producer has published it with `retries`."""
    waiting_since: float = 0.0
    """The time of that; before it is told, a time at which the task had waited, or 0."""
    successor: Successor | None = None
    """The next attempt, as far as is known: the last message that the task has published under its own id."""
    last_run: Run | None = None

    @property
    def runs(self) -> list[Run]:
        """Oldest first."""
        found = []
        run = self.last_run
        while run is not None:
            found.append(run)
            run = run.earlier
        found.reverse()
        return found

    @property
    def is_over(self) -> bool:
        """Whether all that was published under its id has ended, as far as is known."""
        published, last = self.published, self.last_run
        if (
            published is None
            or self.pending is not None
            or (self.received and self.received.replacement > published.replacement)
        ):
            return False
        has_ended = self.is_refused or (last is not None and last.state in _VERDICTS)
        return has_ended and not any(run.is_live for run in self.runs)

    @property
    def reported_at(self) -> float:
        """The latest time that was reported of it, or before it under its id; 0: none."""
        latest = max((run.reported_at for run in self.runs), default=0.0)
        return max(latest, self.previous_reported_at, self.waiting_since if self.waiting_replacement >= 0 else 0.0)

    @property
    def is_waiting(self) -> bool:
        """Whether it was reported to wait in its queue, and no event says that a worker has taken it since."""
        if (
            self.waiting_replacement < 0
            or not self.is_queue_certain
            or self.is_missing
            or self.is_refused
            or self.pending is not None
        ):
            return False
        last = self.last_run
        return last is None or last.state in _WAITING_AGAIN or (last.state is None and last.is_unconfirmed)

    @property
    def replacement(self) -> int:
        """How often it has replaced itself by another task of the same id, as far as workers have received that."""
        return self.received.replacement if self.received else 0

    @property
    def waiting_order(self) -> tuple[int, int]:
        """The place of the run that it was last reported to wait for: see `Run.place`."""
        return self.waiting_replacement, self.waiting_attempt

    def runs_before(self, attempt: int, at: float) -> list[Run]:
        """Those of earlier attempts than that of which the message is seen at `at`, oldest first.

        One that is known from an inspection alone may be that very attempt, unless it began before.
        """
        runs = [run for run in self.runs if run.attempt < attempt]
        return [run for run in runs if run.is_attempt_known or (run.started is not None and run.started < at)]

    def record_successor(self, message_version: MessageVersion, at: float, eta: str | None) -> None:
        """Record that a run of the task has published this message, a later attempt, at this time."""
        runs = [
            run
            for run in self.runs_before(message_version.attempt, at)
            if run.replacement == message_version.replacement
        ]
        live = [run for run in runs if run.is_live] or runs
        publisher = max(live, key=lambda run: (run.has_begun, run.attempt), default=None)
        self.successor = Successor(message_version.attempt, message_version.replacement, at, eta, publisher)

    def has_published(self, message_version: MessageVersion) -> bool:
        """Whether it is recorded that a run of the task has published this message."""
        found = self.successor
        return found is not None and (found.attempt, found.replacement) == message_version

    def successor_of(self, run: Run) -> Successor | None:
        """What `run`, which ends now, has published as the next attempt."""
        found = self.successor
        if found is None or found.replacement != run.replacement or found.attempt <= run.attempt:
            return None
        if found.publisher is None:
            found.publisher = run
        return found if found.publisher is run else None

    @property
    def is_attempt_known(self) -> bool:
        """Whether an event has named an attempt of it: a monitor may have been started since."""
        return self.published is not None or self.received is not None

    def runs_of(self, worker: Process) -> list[Run]:
        """Those of one worker process, oldest first."""
        return [run for run in self.runs if run.worker == worker]

    def unconfirmed_run_of(self, worker: Process, received: float) -> Run | None:
        """A run of that process that no event has told of so far, and that may have been received at this time."""
        unconfirmed = (run for run in self.runs_of(worker) if run.is_unconfirmed and run.state is None)
        return next((run for run in unconfirmed if run.started is None or run.started >= received), None)

    def forget_unconfirmed(self) -> list[Run]:
        """Forget the runs that no event has told of, and that may have ended since; which these are."""
        runs = self.runs
        forgotten = [run for run in runs if run.is_unconfirmed and run.is_live]
        if forgotten:
            self.last_run = None
            for run in runs:
                if run in forgotten:
                    run.is_unconfirmed = False
                else:
                    run.earlier, self.last_run = self.last_run, run
        return forgotten

    def add_run(self, worker: Process, *, redelivered: bool | None = None) -> Run:
        """Another run of the present attempt. Whether the broker had handed it out before follows from the others."""
        attempt, replacement = self.attempt, self.replacement
        if self.received is None and self.successor is not None:  # that message is still to be received
            attempt = self.successor.attempt - 1
        runs = self.runs
        earlier = [run for run in runs if run.attempt == attempt]
        same = [run for run in earlier if run.worker == worker]
        if redelivered is None:
            redelivered = any(run.replacement == replacement for run in earlier)
        receipt = same[-1].receipt + 1 if same else 0
        self._limit(runs)
        is_fact = self.is_attempt_known
        self.last_run = run = Run(
            worker, attempt, receipt, redelivered, replacement, is_attempt_known=is_fact, earlier=self.last_run
        )
        return run

    def insert_previous_run(self, run: Run) -> Run:
        """The run that asked for `run`, of which nothing else is known."""
        self._limit(self.runs)
        run.attempt = max(run.attempt, 2)
        run.earlier = found = Run(run.worker, run.attempt - 1, 0, False, run.replacement, earlier=run.earlier)
        return found

    def _limit(self, runs: list[Run]) -> None:
        """Make room for one more."""
        if len(runs) >= _MAX_RUNS:
            runs[-_MAX_RUNS + 1].earlier = None


class TaskStore:
    """The tasks by their ids; the one that was not heard of for longest is forgotten first: `on_forget` hears of it."""

    def __init__(self, most: int, on_forget: Callable[[str, Task], None]) -> None:
        self.most = most
        self._on_forget = on_forget
        self._tasks: OrderedDict[str, Task] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[tuple[str, Task]]:
        return iter(self._tasks.items())

    def get(self, external_id: str) -> Task | None:
        """The task, if it is known."""
        return self._tasks.get(external_id)

    def renew(self, external_id: str, attempt: int, at: float) -> Task:
        """The task that is published at `at` under the id of one that is over, which is forgotten.

        Where it goes on with a later attempt, as no other has done, that number distinguishes it from the one before.
        """
        last = self._tasks[external_id]
        is_distinct = attempt > last.attempt and not last.publication
        publication = "" if is_distinct else f"@{at:.6f}"
        task = self._tasks[external_id] = Task(publication=publication, previous_reported_at=last.reported_at)
        return task

    def get_or_create(self, external_id: str) -> Task:
        """The task, which is the last to be forgotten from now on; a new one where it is not known."""
        task = self._tasks.get(external_id)
        if task is not None:
            self._tasks.move_to_end(external_id)
            return task
        if len(self._tasks) >= self.most:
            self._on_forget(*self._tasks.popitem(last=False))
        task = self._tasks[external_id] = Task()
        return task
