"""What a worker's main process hands to the process that executes a task, past all that a task or a receiver can see.

It travels in the request, as that is the one thing that every pool takes along: put into a copy at the last moment, and
taken out before Celery makes of it what a task meets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery.app.task import Context
from celery.concurrency.base import BasePool

from sluice_agent.signals.header import HEADER, pop_header
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.run import keep_agent_header

_REQUEST = 2  # its place among the arguments with which a worker has a pool execute a task
_ARGS = 1  # the place of those among what the pool itself is called with
_WITHOUT = "the processes of a worker report one run under two ids"


def patch_handover(agent_header_of: Callable[[Any], Mapping[str, str]]) -> None:
    """Hand over what `agent_header_of` says of a worker's request, and take it where the task's own request is made."""

    def giving(original: Callable[..., Any]) -> Callable[..., Any]:
        def apply_async(pool: BasePool, *given: Any, **options: Any) -> Any:
            agent_header = agent_header_of(getattr(options.get("accept_callback"), "__self__", None))
            args = options.get("args", given[_ARGS] if len(given) > _ARGS else None)
            if agent_header and type(args) is tuple and len(args) > _REQUEST and type(args[_REQUEST]) is dict:
                args = (*args[:_REQUEST], {**args[_REQUEST], HEADER: agent_header}, *args[_REQUEST + 1 :])
                if "args" in options:
                    options["args"] = args
                else:
                    given = (*given[:_ARGS], args, *given[_ARGS + 1 :])
            return original(pool, *given, **options)

        return apply_async

    def taking(original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(context: Context, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it takes the method's place
            agent_header = pop_header(args[0]) if args and type(args[0]) is dict else None
            original(context, *args, **kwargs)
            if agent_header is not None:
                keep_agent_header(context, agent_header)

        return __init__

    def preparing(original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(pool: BasePool, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it takes the method's place
            original(pool, *args, **kwargs)
            patch_method(type(pool), "apply_async", giving, without=_WITHOUT)  # a pool of somebody's may have its own

        return __init__

    patch_method(BasePool, "__init__", preparing, without=_WITHOUT)
    patch_method(BasePool, "apply_async", giving, without=_WITHOUT)
    patch_method(Context, "__init__", taking, without=_WITHOUT)
