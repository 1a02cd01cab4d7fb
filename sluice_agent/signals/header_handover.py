"""The agent header on its way from a worker's main process to the thread or process that executes the task.

It goes beside the request, so that no task and no receiver can see it. A pool that executes tasks in this process, as
Celery's own `solo` and `threads` do, announces each in the thread that executes it. Every other pool passes on a
function and its arguments: ours is executed in place of Celery's, with the agent header as another argument, and calls
Celery's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from celery.app.trace import fast_trace_task
from celery.concurrency.base import BasePool
from celery.worker.request import Request

from sluice_agent.signals.agent_header import PROCESS, RUN
from sluice_agent.signals.current_runs import begin_execution, end_execution
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.received_requests import kept_header

_ID_INDEX, _REQUEST_INDEX = 1, 2  # among the arguments with which the pool executes a task
_IN_THIS_PROCESS = ("celery.concurrency.solo", "celery.concurrency.thread")
_EFFECT = "the processes of a worker report one run under two ids"


def patch_handover(agent_header_of: Callable[[Any], Mapping[str, str]]) -> None:
    """Hand over what `agent_header_of` returns for a worker's request to where it is executed."""

    def around_apply_async(original: Callable[..., Any]) -> Callable[..., Any]:
        def apply_async(pool: BasePool, target: Any, args: Any = None, *rest: Any, **options: Any) -> Any:
            if type(args) is tuple and len(args) > _REQUEST_INDEX and type(args[_REQUEST_INDEX]) is dict:
                agent_header = agent_header_of(getattr(options.get("accept_callback"), "__self__", None))
                if agent_header:
                    args = (None if target is fast_trace_task else target, agent_header, os.getpid(), *args)
                    target = execute_with_header
            return original(pool, target, args, *rest, **options)

        return apply_async

    def around_pool_init(original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(pool: BasePool, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it replaces the method
            original(pool, *args, **kwargs)
            if type(pool).__module__ not in _IN_THIS_PROCESS:
                patch_method(type(pool), "apply_async", around_apply_async, without=_EFFECT)

        return __init__

    _patch_acceptance()
    patch_method(BasePool, "__init__", around_pool_init, without=_EFFECT)


def _patch_acceptance() -> None:
    def around_on_accepted(original: Callable[..., Any]) -> Callable[..., Any]:
        def on_accepted(request: Request, *args: Any, **kwargs: Any) -> Any:
            if args and args[0] == os.getpid():  # the process that executes it
                agent_header = kept_header(request)
                if agent_header:
                    begin_execution(request.id, agent_header)
            return original(request, *args, **kwargs)

        return on_accepted

    patch_method(Request, "on_accepted", around_on_accepted, without=_EFFECT)


def execute_with_header(
    target: Callable[..., Any] | None, agent_header: dict[str, str], received_by: int, *args: Any, **kwargs: Any
) -> Any:
    """Execute a task that process `received_by` has received. A pool process finds this function by its name.

    `target` is Celery's function; None: `fast_trace_task`, the usual one. To pass a second function on to another
    process would cost as much there as an event does.
    """
    if (pid := os.getpid()) != received_by and RUN in agent_header:
        agent_header[PROCESS] = str(pid)  # the header is a copy: it came from another process
    begin_execution(args[_ID_INDEX], agent_header)
    try:
        return (target or fast_trace_task)(*args, **kwargs)
    finally:
        end_execution()
