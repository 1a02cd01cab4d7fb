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

from celery.concurrency.base import BasePool
from celery.worker.request import Request

from sluice_agent.signals.current_runs import begin_execution, end_execution
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.received_requests import kept_header

_ID_INDEX, _REQUEST_INDEX = 1, 2  # among the arguments with which the pool executes a task
_IN_THIS_PROCESS = ("celery.concurrency.solo", "celery.concurrency.thread")
_EFFECT = "the processes of a worker report one run under two ids"


def patch_handover(agent_header_of: Callable[[Any], Mapping[str, str]]) -> None:
    """Hand over what `agent_header_of` returns for a worker's request to where it is executed."""

    def around_apply_async(original: Callable[..., Any]) -> Callable[..., Any]:
        def apply_async(pool: BasePool, *positional: Any, **options: Any) -> Any:
            agent_header = agent_header_of(getattr(options.get("accept_callback"), "__self__", None))
            if agent_header:
                positional, options = _with_header(positional, options, agent_header)
            return original(pool, *positional, **options)

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
                    begin_execution(request.id, agent_header, is_own=True)
            return original(request, *args, **kwargs)

        return on_accepted

    patch_method(Request, "on_accepted", around_on_accepted, without=_EFFECT)


def execute_with_header(target: Callable[..., Any], agent_header: Mapping[str, str], *args: Any, **kwargs: Any) -> Any:
    """Execute a task, of which `target` is Celery's function. A pool process finds this one by its name."""
    begin_execution(args[_ID_INDEX], agent_header)
    try:
        return target(*args, **kwargs)
    finally:
        end_execution()


def _with_header(
    positional: tuple[Any, ...], options: dict[str, Any], agent_header: Mapping[str, str]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a pool's `apply_async` with our function in place of Celery's, and the header."""
    if not positional:
        return positional, options
    target, *rest = positional
    args = rest[0] if rest else options.get("args")
    if type(args) is not tuple or len(args) <= _REQUEST_INDEX or type(args[_REQUEST_INDEX]) is not dict:
        return positional, options
    args = (target, agent_header, *args)
    if rest:
        return (execute_with_header, args, *rest[1:]), options
    return (execute_with_header,), {**options, "args": args}
