"""One execution of one attempt of a job, as the process that executes it knows it."""

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

from sluice_agent.encoding import JobEvents
from sluice_agent.identity import run_name
from sluice_agent.timestamps import timestamp_of_ns

_TOKEN_BYTES = 6  # two of a million processes of one name and number have the same token with a chance of 1 in 600

_known: dict[ref[Context], Run | dict[str, str]] = {}
"""Of each request that is executed here its `Run`, or before it begins what our header says; no task can meet it.

It goes when the request goes: the dictionary's own `pop` is what is called then, at half the cost of a
`WeakKeyDictionary`, which calls back into Python.
"""

_batches: WeakKeyDictionary[Context, dict[str, Run]] = WeakKeyDictionary()
"""The executions of each request that stands for several jobs, by their ids."""


class RunNames:
    """Names the executions that this process takes, each once for all time."""

    def __init__(self) -> None:
        self._pid = 0
        self._life = ""
        self._numbers = count()

    def next(self, hostname: str) -> str:
        """A name that no other execution has or will have. `hostname` is the worker's node name."""
        pid = os.getpid()
        if pid != self._pid:  # also in a process that was forked without Python's hooks
            self._life = token_hex(_TOKEN_BYTES)
            self._pid = pid
        return run_name(hostname, pid, self._life, next(self._numbers))


@dataclass(slots=True)
class Run:
    """One execution of one attempt, in this process."""

    events: JobEvents
    started_ns: int
    """By the wall clock, in nanoseconds of the epoch."""
    started_monotonic: float
    """The monotonic clock at that moment."""
    started: str
    agent_header: Mapping[str, str]
    """What our header said."""
    published_at: str | None = None
    """When this job published itself again, as its retry."""
    published_for: str | None = None
    """The ETA of that."""
    progress_at: float = float("-inf")
    pending_progress: tuple[float, str] | None = None
    """How far, and when it was said: told later, it still belongs before an end that another process tells."""
    stored: tuple[str, Any] | None = None
    """The state that the task has stored for itself, and what with it: an exception, or the `meta` of a state."""
    has_begun: bool = False
    """Whether `active` is emitted. This and `has_ended` are set after it: what is interrupted between is done again."""
    has_ended: bool = False

    def now(self) -> str:
        """This moment by the wall clock as it was when the run began: it may have been set since."""
        return self.after(time.monotonic() - self.started_monotonic)

    def after(self, seconds: float) -> str:
        """The moment when the run has taken so long."""
        return timestamp_of_ns(self.started_ns + int(seconds * 1e9))

    @property
    def is_eager(self) -> bool:
        """Whether whoever called the task runs it."""
        return "eager" in self.events.facts.extensions


def keep_agent_header(request: Context, agent_header: dict[str, str]) -> None:
    """`agent_header` is what our header says of `request`, which is about to be executed here."""
    _known[ref(request, _known.pop)] = agent_header


def begin_run(request: Context, run: Run) -> None:
    """`run` is the execution of `request`, from now on."""
    key = ref(request)
    _known[key if key in _known else ref(request, _known.pop)] = run


def current_agent_header(task: Task | None) -> Mapping[str, str]:
    """What our header says of the request that `task` executes here; empty where there is none."""
    return {} if task is None else agent_header_of(task.request)


def agent_header_of(request: Context) -> Mapping[str, str]:
    """What our header says of `request`, which is executed here; empty where there is none."""
    known = _known.get(ref(request))
    return known.agent_header if isinstance(known, Run) else known or {}


def run_of(request: Context) -> Run | None:
    """The execution of `request`, where it is one job's."""
    run = _known.get(ref(request))
    return run if isinstance(run, Run) else None


def begin_batch(request: Context, runs: dict[str, Run]) -> None:
    """`runs`, by the ids of their jobs, are the executions of `request`, which is no job's own."""
    _batches[request] = runs


def current_batch(request: Context) -> dict[str, Run]:
    """The executions of `request`, by the ids of their jobs."""
    return _batches.get(request, {})


def end_batch(request: Context) -> None:
    """The executions of `request` have ended with it."""
    _batches.pop(request, None)


def current_run(task: Task | None, external_id: object = None) -> Run | None:
    """The execution that `task` is in the middle of, if it is of job `external_id` or that does not matter."""
    if task is None:
        return None
    run = _known.get(ref(task.request))
    if not isinstance(run, Run):
        return current_batch(task.request).get(str(external_id)) if _batches else None
    if external_id is not None and run.events.facts.external_id != str(external_id):
        return None
    return run
