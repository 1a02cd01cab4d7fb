"""The agent header on its way from a worker's main process to the task process, hidden from tasks and receivers.

It travels in the request, as that is the one object that every pool passes on. It is put into a copy at the last
moment, and removed before Celery makes the task's own request from it. It lies in the smallest dictionary of those that
always are there: where a member is removed, each copy of what remains takes four times as long, and Celery copies it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery.app.task import Context
from celery.concurrency.base import BasePool

from sluice_agent.signals.agent_header import HEADER, pop_header
from sluice_agent.signals.current_runs import keep_agent_header
from sluice_agent.signals.patching import patch_method

_REQUEST_INDEX = 2  # among the arguments with which the pool executes a task
_ARGS_INDEX = 1  # of those arguments, among the positional ones of the pool's `apply_async`
_EFFECT = "the processes of a worker report one run under two ids"


def patch_handover(agent_header_of: Callable[[Any], Mapping[str, str]]) -> None:
    """Hand over what `agent_header_of` returns for a worker's request, and keep it where the task's request is made."""

    def around_apply_async(original: Callable[..., Any]) -> Callable[..., Any]:
        def apply_async(pool: BasePool, *positional: Any, **options: Any) -> Any:
            agent_header = agent_header_of(getattr(options.get("accept_callback"), "__self__", None))
            if agent_header and "args" in options:
                options["args"] = _with_header(options["args"], agent_header)
            elif agent_header and len(positional) > _ARGS_INDEX:
                args = _with_header(positional[_ARGS_INDEX], agent_header)
                positional = (*positional[:_ARGS_INDEX], args, *positional[_ARGS_INDEX + 1 :])
            return original(pool, *positional, **options)

        return apply_async

    def around_context_init(original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(context: Context, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it replaces the method
            agent_header = pop_header(args[0]) if args and type(args[0]) is dict else None
            original(context, *args, **kwargs)
            if agent_header is not None:
                keep_agent_header(context, agent_header)

        return __init__

    def around_pool_init(original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(pool: BasePool, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it replaces the method
            original(pool, *args, **kwargs)
            # A third party's pool may override the method.
            patch_method(type(pool), "apply_async", around_apply_async, without=_EFFECT)

        return __init__

    patch_method(BasePool, "__init__", around_pool_init, without=_EFFECT)
    patch_method(BasePool, "apply_async", around_apply_async, without=_EFFECT)
    patch_method(Context, "__init__", around_context_init, without=_EFFECT)


def _with_header(args: Any, agent_header: Mapping[str, str]) -> Any:
    """Return the arguments with which the pool executes a task, with our header in a copy of its request."""
    if type(args) is not tuple or len(args) <= _REQUEST_INDEX or type(args[_REQUEST_INDEX]) is not dict:
        return args
    request = args[_REQUEST_INDEX]
    delivery = request.get("delivery_info")
    if type(delivery) is dict:
        request = {**request, "delivery_info": {**delivery, HEADER: agent_header}}
    else:
        request = {**request, HEADER: agent_header}
    return (*args[:_REQUEST_INDEX], request, *args[_REQUEST_INDEX + 1 :])
