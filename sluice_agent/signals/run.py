"""Runs: the executions of attempts of jobs, in the process that executes them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from secrets import token_hex
from typing import Any
from weakref import WeakKeyDictionary, ref

from celery import Task
from celery.app.task import Context

from sluice_agent.lifecycle.encoding import JobEvents
from sluice_agent.lifecycle.identity import agent_run_name
from sluice_agent.lifecycle.timestamps import timestamp_of_ns

_TOKEN_BYTES = 6  # of a million processes of one name and pid, two have the same token with a chance of 1 in 600

_by_request: dict[ref[Context], Run | dict[str, str]] = {}
"""The `Run` of each request that is executed here, or before it begins the agent header; no task can see it.

The entry is removed when the request is freed: that calls the dictionary's own `pop`, at half the cost of a
`WeakKeyDictionary`, which calls back into Python.
"""

_batches: WeakKeyDictionary[Context, dict[str, Run]] = WeakKeyDictionary()
"""The runs of each request that executes several jobs, by job id."""


class RunNames:
    """Make the names of the runs of this process, each unique for all time."""

    def __init__(self) -> None:
        self._pid = 0
        self._token = ""
        self._numbers = count()

    def next(self, hostname: str) -> str:
        """Return a name that no other run has or will have. `hostname` is the worker's node name."""
        pid = os.getpid()
        if pid != self._pid:  # also in a process that was forked without Python's hooks
            self._token = token_hex(_TOKEN_BYTES)
            self._pid = pid
        return agent_run_name(hostname, pid, self._token, next(self._numbers))


@dataclass(slots=True)
class Run:
    """One execution of one attempt, in this process."""

    events: JobEvents
    started_ns: int
    """The start by the wall clock, in nanoseconds since the epoch."""
    started_monotonic: float
    """The start by the monotonic clock, in seconds."""
    started: str
    agent_header: Mapping[str, str]
    """That of the job's message."""
    published_at: str | None = None
    """When this job published its own retry."""
    published_for: str | None = None
    """The ETA of that retry."""
    progress_at: float = float("-inf")
    pending_progress: tuple[float, str] | None = None
    """A fraction and its timestamp, not yet reported. With that it sorts before an end that another process reports."""
    stored: tuple[str, Any] | None = None
    """The state that the task has stored for itself, with its exception or its `meta`."""
    has_begun: bool = False
    """Whether `active` is emitted. This and `has_ended` are set after the event: an interrupted handler runs again."""
    has_ended: bool = False

    def now(self) -> str:
        """Return the present time, by the wall clock as it was when the run began: it may have been set since."""
        return self.after(time.monotonic() - self.started_monotonic)

    def after(self, seconds: float) -> str:
        """Return the timestamp `seconds` after the start."""
        return timestamp_of_ns(self.started_ns + int(seconds * 1e9))

    @property
    def is_eager(self) -> bool:
        """True if the caller of the task runs it, in its own process."""
        return "eager" in self.events.facts.extensions


def keep_agent_header(request: Context, agent_header: dict[str, str]) -> None:
    """Store the agent header of `request`, which is about to be executed here."""
    _by_request[ref(request, _by_request.pop)] = agent_header


def begin_run(request: Context, run: Run) -> None:
    """Make `run` the current run of `request`."""
    key = ref(request)
    _by_request[key if key in _by_request else ref(request, _by_request.pop)] = run


def current_agent_header(task: Task | None) -> Mapping[str, str]:
    """Return the agent header of the request that `task` executes here; empty if it has none."""
    return {} if task is None else agent_header_of(task.request)


def agent_header_of(request: Context) -> Mapping[str, str]:
    """Return the agent header of `request`, which is executed here; empty if it has none."""
    entry = _by_request.get(ref(request))
    return entry.agent_header if isinstance(entry, Run) else entry or {}


def run_of(request: Context) -> Run | None:
    """Return the run of `request`; None if it has not begun, or is a batch."""
    entry = _by_request.get(ref(request))
    return entry if isinstance(entry, Run) else None


def begin_batch(request: Context, runs: dict[str, Run]) -> None:
    """Store the `runs`, by job id, of `request`, which executes several jobs."""
    _batches[request] = runs


def current_batch(request: Context) -> dict[str, Run]:
    """Return the runs of `request`, by job id."""
    return _batches.get(request, {})


def end_batch(request: Context) -> None:
    """Remove the runs of `request`, which have ended with it."""
    _batches.pop(request, None)


def current_run(task: Task | None, external_id: object = None) -> Run | None:
    """Return the run that `task` executes now, if `external_id` is that of its job, or None."""
    if task is None:
        return None
    run = _by_request.get(ref(task.request))
    if not isinstance(run, Run):
        return current_batch(task.request).get(str(external_id)) if _batches else None
    if external_id is not None and run.events.facts.external_id != str(external_id):
        return None
    return run
