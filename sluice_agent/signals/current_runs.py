"""The runs that this process executes now, by the request that Celery has made for each."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from weakref import WeakKeyDictionary, ref

from celery import Task
from celery.app.task import Context

from sluice_agent.signals.run import Run

_by_request: dict[ref[Context], Run | dict[str, str]] = {}
"""The `Run` of each request that is executed here, or before it begins the agent header; no task can see it.

The entry is removed when the request is freed: that calls the dictionary's own `pop`, at half the cost of a
`WeakKeyDictionary`, which calls back into Python.
"""

_newest: dict[int, ref[Context]] = {}
"""The request that each thread or greenlet executes, with the agent header, if it has begun nothing else since.

It is found by this where it need not be searched in Celery's stack, which costs more than an event does.
"""

_batches: WeakKeyDictionary[Context, dict[str, Run]] = WeakKeyDictionary()
"""The runs of each request that executes several jobs, by job id."""


def keep_agent_header(request: Context, agent_header: dict[str, str]) -> None:
    """Store the agent header of `request`, which is about to be executed here."""
    reference = ref(request, _by_request.pop)
    _by_request[reference] = agent_header
    _newest[threading.get_ident()] = reference


def take_newest() -> tuple[ref[Context], Run | dict[str, str]] | None:
    """Return the request that this thread has begun last, and its run or agent header; not a second time.

    None if it is not known: the thread has begun one without an agent header since.
    """
    reference = _newest.pop(threading.get_ident(), None)
    entry = None if reference is None else _by_request.get(reference)
    return None if reference is None or entry is None else (reference, entry)


def begin_newest(reference: ref[Context], run: Run) -> None:
    """Make `run` the current run of the request that this thread has begun last."""
    _by_request[reference] = run
    _newest[threading.get_ident()] = reference


def begin_run(request: Context, run: Run) -> None:
    """Make `run` the current run of `request`."""
    _newest.pop(threading.get_ident(), None)
    key = ref(request)
    _by_request[key if key in _by_request else ref(request, _by_request.pop)] = run


def executes_any() -> bool:
    """Return whether this process executes a request with an agent header or a run: a look-up of tasks costs more."""
    return bool(_by_request)


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
    if external_id is not None and run.events.external_id != str(external_id):
        return None
    return run


def unstored_run(external_id: object, raised: BaseException) -> Run | None:
    """Return the run of this job that succeeded here, and whose result can't be stored because of `raised`.

    Celery then announces a failure, when the request is current no more. The job's id alone could match another run.
    """
    for run in _by_request.copy().values():
        if isinstance(run, Run) and run.unstored_by == id(raised) and run.events.external_id == str(external_id):
            return run
    return None
