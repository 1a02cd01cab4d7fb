"""The runs that this process executes now: by thread, and by the request that Celery has made for each."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from weakref import WeakKeyDictionary, ref

from celery import Task
from celery._state import get_current_task
from celery.app.task import Context

from sluice_agent.model import JobState
from sluice_agent.signals.run import PlainRun, Run

_by_request: dict[ref[Context], Run] = {}
"""The `Run` of each request that is executed here; no task can see it.

The entry is removed when the request is freed: that calls the dictionary's own `pop`, at half the cost of a
`WeakKeyDictionary`, which calls back into Python.
"""

EXECUTIONS: dict[int, ExecutedJob] = {}
"""What each thread or greenlet executes for a worker, by `threading.get_ident()`."""

_batches: WeakKeyDictionary[Context, dict[str, Run]] = WeakKeyDictionary()
"""The runs of each request that executes several jobs, by job id."""


class ExecutedJob:
    """A job that a thread executes for a worker, from before its run begins until after its end.

    To find its request costs more than an event does: Celery searches its stack for it. So the run of a plain job is
    kept here, without a request, until anything but its end asks for it.
    """

    __slots__ = ("agent_header", "external_id", "has_begun", "plain_run", "reported", "run")

    external_id: str
    agent_header: Mapping[str, str]
    has_begun: bool
    plain_run: PlainRun | None
    reported: JobState | None
    """The state of the plain run that was reported last."""
    run: Run | None
    """The same run, once anything has asked for it, until its request is known."""

    def take_run(self, request: Context) -> Run | None:
        """Return the run that is kept here, and keep it no more, if `request` is that of this job."""
        self.release_plain_run()
        run = self.run
        if run is not None and self.is_of(request):
            self.run = None
            return run
        return None

    def is_of(self, request: Context) -> bool:
        """Return whether `request` is that of this job, and not of a call within it under the same id."""
        fields = vars(request)
        external_id = fields.get("id")
        if external_id is None:  # the task has cleared its request, or it is that of no job
            task = get_current_task()
            return task is not None and task.request is request
        return external_id == self.external_id and not fields.get("is_eager")

    def release_plain_run(self) -> None:
        """Let the run end in the ordinary way: more happens to it, or another one begins within it."""
        self.has_begun = True
        if self.plain_run is not None:
            self.run = Run.of_plain_run(self.external_id, self.plain_run, self.agent_header, self.reported)
            self.plain_run = None


def begin_execution(external_id: str, agent_header: Mapping[str, str]) -> None:
    """Store that this thread executes a job, whose run has not begun yet."""
    EXECUTIONS[threading.get_ident()] = execution = ExecutedJob()
    execution.external_id, execution.agent_header, execution.has_begun = external_id, agent_header, False
    execution.plain_run = execution.run = execution.reported = None


def end_execution() -> None:
    """Store that this thread executes nothing for a worker."""
    EXECUTIONS.pop(threading.get_ident(), None)


def current_execution() -> ExecutedJob | None:
    """Return what this thread executes for a worker."""
    return EXECUTIONS.get(threading.get_ident())


def begin_run(request: Context, run: Run) -> None:
    """Make `run` the current run of `request`."""
    execution = current_execution()
    if execution is not None:
        execution.release_plain_run()
    key = ref(request)
    _by_request[key if key in _by_request else ref(request, _by_request.pop)] = run


def agent_header_here() -> Mapping[str, str]:
    """Return the agent header of the request that this thread executes; empty if it has none.

    While all that runs is plain, nothing but the thread is asked: to find the request costs more than an event.
    """
    if _by_request:
        return current_agent_header(get_current_task())
    execution = EXECUTIONS.get(threading.get_ident()) if EXECUTIONS else None
    return {} if execution is None else execution.agent_header


def current_agent_header(task: Task | None) -> Mapping[str, str]:
    """Return the agent header of the request that `task` executes here; empty if it has none."""
    return {} if task is None else agent_header_of(task.request)


def agent_header_of(request: Context) -> Mapping[str, str]:
    """Return the agent header of `request`, which is executed here; empty if it has none."""
    run = _by_request.get(ref(request))
    if run is not None:
        return run.agent_header
    execution = current_execution()
    return execution.agent_header if execution is not None and execution.is_of(request) else {}


def run_of(request: Context) -> Run | None:
    """Return the run of `request`; None if it has not begun, or is a batch."""
    run = _by_request.get(ref(request))
    if run is None and (execution := current_execution()) is not None and execution.has_begun:
        run = execution.take_run(request)
        if run is not None:
            _by_request[ref(request, _by_request.pop)] = run
    return run


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
    request = task.request
    run = run_of(request)
    if run is None:
        return current_batch(request).get(str(external_id)) if _batches else None
    if external_id is not None and run.events.external_id != str(external_id):
        return None
    return run


def unstored_run(external_id: object, raised: BaseException) -> Run | None:
    """Return the run of this job that succeeded here, and whose result can't be stored because of `raised`.

    Celery then announces a failure, when the request is current no more. The job's id alone could match another run.
    """
    for run in _by_request.copy().values():
        if run.unstored_by == id(raised) and run.events.external_id == str(external_id):
            return run
    return None
