"""Records of tasks, their messages and their runs: broker events after `task-received` carry no more than an id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple

from sluice_agent.lifecycle.encoding import JobEvents
from sluice_agent.lifecycle.identity import run_of
from sluice_agent.lifecycle.transitions import Transition
from sluice_agent.model import JobState

ACTIVE, RETRYING, UNKNOWN = JobState.ACTIVE, JobState.RETRYING, JobState.UNKNOWN
"""States that each event is compared with: before Python 3.12 an attribute of an Enum takes ten times as long."""

_WAITING_AGAIN = (JobState.QUEUED, RETRYING)
_MAX_RUNS = 8  # runs of one task that are kept: more are the redeliveries of a broken set-up


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
    """As received: another task may have replaced this one before the event that this run has begun arrives."""
    received: float | None = None
    started: float | None = None
    state: JobState | None = None
    """The state reported last; None: only its receipt is known."""
    reported_started: float = 0.0
    """The reported start, which may be later than the start by its worker's clock; 0: not reported yet."""
    reported_at: float = 0.0
    """The latest time reported of it; 0: none."""
    is_unconfirmed: bool = False
    """True if it is known from an inspect reply only, which names no attempt; its end is an event."""
    is_attempt_known: bool = True
    """True if an event has named its attempt, or that of the message it was made of or of one it has published."""
    is_plain: bool = False
    """True for the first run of a task, whose id and message are as most are: see `Recorder.record_plain_receipt`."""
    encoder: tuple[tuple[Any, ...], JobEvents] | None = None
    """What the events of the run share, and their encoder, while it is active."""
    previous: Run | None = None
    """The run before. A chain: most tasks have one run, and a tuple around it takes half as much as the run itself."""

    @property
    def name(self) -> str:
        """The run's name, which distinguishes it from other executions: see `identity.run_of`."""
        name = run_of(*self.worker, self.receipt, self.redelivered)
        return f"{name}+{self.replacement}" if self.replacement else name

    def confirm_receipt(self, task: Task, at: float) -> None:
        """Record that an event reports its receipt at `at`, with the message of `task` as it is now."""
        self.attempt, self.replacement, self.received, self.is_unconfirmed = task.attempt, task.replacement, at, False
        self.task_name, self.is_attempt_known = task.name, True

    def assume_start(self, at: float) -> None:
        """Record that it has begun at `at`, which no event of the start has reported."""
        self.started = at

    @property
    def order(self) -> tuple[int, int]:
        """The sort key among the runs of a task: each replacement counts its attempts from 1 again."""
        return self.replacement, self.attempt

    @property
    def has_begun(self) -> bool:
        """True if an event or an inspect reply shows that it is under way."""
        return self.state is ACTIVE or (self.state is None and self.is_unconfirmed and self.started is not None)

    @property
    def is_live(self) -> bool:
        """True if its end is still to come, as far as is known."""
        return self.state is None or self.state is ACTIVE or self.state is UNKNOWN

    @property
    def may_be_retried(self) -> bool:
        """True if a later attempt may be its retry: it is under way, or was retried."""
        return self.state is None or self.state is ACTIVE or self.state is RETRYING


class MessageVersion(NamedTuple):
    """One of a task's messages: how often the task had replaced itself by then, and its attempt.

    It compares with the `order` of the runs: the message's own has the same.
    """

    replacement: int
    attempt: int


message_version = lru_cache(1_024)(MessageVersion)
"""Return a `MessageVersion` that all tasks share: most tasks have only one."""

NO_VERSION = MessageVersion(-1, 1)
"""The version of no message."""

FIRST_VERSION = message_version(0, 1)
"""The version of the only message that most tasks have."""


@dataclass(slots=True, eq=False)
class Publication:
    """A message that waits for a run: its time and task, whether it waits for an ETA, and the arguments to report."""

    version: MessageVersion
    at: float
    name: str
    transition: Transition
    arguments: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class Successor:
    """The message of a later attempt, published by an attempt of the same task."""

    version: MessageVersion
    at: float
    eta: str | None
    publisher: Run | None
    """The run that has published it; None: not known yet."""


@dataclass(slots=True, eq=False)
class Task:
    """The record of one task; times are seconds of the epoch."""

    external_id: str
    name: str = ""
    queue: str | None = None
    attempt: int = 1
    """The attempt published or received last."""
    root_id: str | None = None
    """None where it is the task's own id."""
    parent_id: str | None = None
    eta: str | None = None
    expires: str | None = None
    priority: int | None = None
    created: float | None = None
    published: MessageVersion | None = None
    """The message published last, as its producer described it."""
    published_kind: int = 0
    """A hash of the name and the arguments of `published`."""
    received: MessageVersion | None = None
    """The message received last, as its worker described it: of a task with two names, these two hold one each."""
    received_kind: int = 0
    publication: str = ""
    """A suffix that distinguishes it from earlier jobs under its id, which had ended; empty for the first."""
    is_queue_certain: bool = False
    """True if its message was certainly put into its queue."""
    is_missing: bool = False
    """True if it was reported as in its queue no more, and with no worker."""
    is_refused: bool = False
    """True if a worker has refused its message for good: nothing of it waits or will run."""
    previous_reported_at: float = 0.0
    """The latest time reported of earlier jobs under its id; 0: none."""
    pending: Publication | None = None
    """The publication that is still to be reported."""
    waiting_version: MessageVersion = NO_VERSION
    """The message that was last reported to wait. Its attempt is above 1 where the producer has set `retries`."""
    waiting_since: float = 0.0
    """The time of that report; before there is one, a time at which the task had waited, or 0."""
    successor: Successor | None = None
    """The next attempt, as far as is known: the message that the task has published last under its own id."""
    last_run: Run | None = None

    @property
    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        run = self.last_run
        if run is None:
            return []
        if run.previous is None:  # as of nearly all tasks
            return [run]
        runs = []
        while run is not None:
            runs.append(run)
            run = run.previous
        runs.reverse()
        return runs

    @property
    def is_over(self) -> bool:
        """True if all publications under its id have ended, as far as is known."""
        published, last = self.published, self.last_run
        if (
            published is None
            or self.pending is not None
            or (self.received and self.received.replacement > published.replacement)
        ):
            return False
        has_ended = self.is_refused or (last is not None and last.state is not None and last.state.is_final)
        return has_ended and not any(run.is_live for run in self.runs)

    @property
    def reported_at(self) -> float:
        """The latest time reported of it, or of earlier jobs under its id; 0: none."""
        latest = max((run.reported_at for run in self.runs), default=0.0)
        return max(latest, self.previous_reported_at, self.waiting_since if self.is_wait_reported else 0.0)

    @property
    def is_waiting(self) -> bool:
        """True if it was reported to wait in its queue, and no event since shows that a worker has received it."""
        if (
            not self.is_wait_reported
            or not self.is_queue_certain
            or self.is_missing
            or self.is_refused
            or self.pending is not None
        ):
            return False
        last = self.last_run
        return last is None or last.state in _WAITING_AGAIN or (last.state is None and last.is_unconfirmed)

    @property
    def is_wait_reported(self) -> bool:
        """True if any message of it was reported to wait."""
        return self.waiting_version is not NO_VERSION

    def record_wait(self, version: MessageVersion, since: float) -> None:
        """Record that this message was reported to wait since then, here or by an agent."""
        self.waiting_version, self.waiting_since = version, since

    @property
    def replacement(self) -> int:
        """Number of times that another task has replaced it under its id, as far as workers have received those."""
        return self.received.replacement if self.received else 0

    def runs_before(self, attempt: int, at: float) -> list[Run]:
        """Return the runs of attempts before `attempt`, whose message is seen at `at`, oldest first.

        A run known from an inspect reply only may be that very attempt, unless it began before.
        """
        runs = [run for run in self.runs if run.attempt < attempt]
        return [run for run in runs if run.is_attempt_known or (run.started is not None and run.started < at)]

    def fill_in(
        self,
        *,
        name: str | None,
        queue: str | None = None,
        is_queue_certain: bool = False,
        eta: str | None = None,
        priority: int | None = None,
    ) -> None:
        """Learn what no event has shown of its message."""
        self.name = self.name or intern(name or "")
        self.queue = self.queue or queue
        self.is_queue_certain = self.is_queue_certain or is_queue_certain
        self.eta = self.eta or eta
        self.priority = priority if self.priority is None else self.priority

    def expect_attempt(self, attempt: int) -> None:
        """Record that this attempt has been published, or will be."""
        self.attempt = max(self.attempt, attempt)

    def record_successor(self, version: MessageVersion, at: float, eta: str | None) -> None:
        """Record that a run of the task has published this message, a later attempt, at `at`."""
        runs = [run for run in self.runs_before(version.attempt, at) if run.replacement == version.replacement]
        live = [run for run in runs if run.is_live] or runs
        publisher = max(live, key=lambda run: (run.has_begun, run.attempt), default=None)
        self.successor = Successor(version, at, eta, publisher)

    def has_published(self, version: MessageVersion) -> bool:
        """Return whether it is recorded that a run of the task has published this message."""
        return self.successor is not None and self.successor.version == version

    def successor_of(self, run: Run) -> Successor | None:
        """Return the next attempt that `run`, which ends now, has published, if any."""
        successor = self.successor
        if successor is None:
            return None
        if successor.version.replacement != run.replacement or successor.version.attempt <= run.attempt:
            return None
        if successor.publisher is None:
            successor.publisher = run
        return successor if successor.publisher is run else None

    @property
    def has_only_root(self) -> bool:
        """True if its message has nothing that all its events repeat, but for the id of its root."""
        return not self.parent_id and not self.eta and not self.expires and self.priority is None

    @property
    def is_attempt_known(self) -> bool:
        """True if an event has named an attempt of it: the monitor may have started later."""
        return self.published is not None or self.received is not None

    def runs_of(self, worker: Process) -> list[Run]:
        """Return the runs of one worker process, oldest first."""
        last = self.last_run
        if last is None:
            return []
        if last.previous is None:
            return [last] if last.worker == worker else []
        return [run for run in self.runs if run.worker == worker]

    def unconfirmed_run_of(self, worker: Process, received: float) -> Run | None:
        """Return an unconfirmed run of this process that may have been received at `received`, if any."""
        for run in self.runs_of(worker):
            if run.is_unconfirmed and run.state is None and (run.started is None or run.started >= received):
                return run
        return None

    def forget_unconfirmed(self) -> list[Run]:
        """Forget the unconfirmed runs that may have ended since, and return them."""
        runs = self.runs
        forgotten = [run for run in runs if run.is_unconfirmed and run.is_live]
        if forgotten:
            self.last_run = None
            for run in runs:
                if run in forgotten:
                    run.is_unconfirmed = False
                else:
                    run.previous, self.last_run = self.last_run, run
        return forgotten

    def add_run(self, worker: Process, *, redelivered: bool | None = None) -> Run:
        """Add a run of the present attempt. By default it is `redelivered` if the attempt already has a run."""
        attempt, replacement = self.attempt, self.replacement
        if self.received is None and self.successor is not None:  # its message is still to be received
            attempt = self.successor.version.attempt - 1
        receipt = 0
        if self.last_run is not None:
            runs = self.runs
            same_attempt = [run for run in runs if run.attempt == attempt]
            same_worker = [run for run in same_attempt if run.worker == worker]
            if redelivered is None:
                redelivered = any(run.replacement == replacement for run in same_attempt)
            receipt = same_worker[-1].receipt + 1 if same_worker else 0
            self._make_room(runs)
        self.last_run = run = Run(worker, attempt, receipt, redelivered or False, replacement, previous=self.last_run)
        run.is_attempt_known = self.is_attempt_known
        return run

    def add_plain_run(self, worker: Process, received: float) -> None:
        """Add the run of a new task that `worker` has received."""
        self.last_run = Run(worker, 1, 0, False, 0, self.name, received, is_plain=True)

    def add_unconfirmed_run(self, worker: Process, *, redelivered: bool) -> Run:
        """Add a run that an inspect reply lists, and of which no event was received."""
        run = self.add_run(worker, redelivered=redelivered)
        run.is_unconfirmed = True
        return run

    def insert_previous_run(self, run: Run) -> Run:
        """Insert and return the run that has asked for `run`, of which nothing else is known."""
        self._make_room(self.runs)
        run.attempt = max(run.attempt, 2)
        run.previous = previous = Run(run.worker, run.attempt - 1, 0, False, run.replacement, previous=run.previous)
        return previous

    def _make_room(self, runs: list[Run]) -> None:
        """Drop the oldest runs if there is no room for one more."""
        if len(runs) >= _MAX_RUNS:
            runs[-_MAX_RUNS + 1].previous = None
