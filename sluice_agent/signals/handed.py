"""What a worker's main process hands to the process that executes a task, past all that a task or a receiver can see.

It travels in the request, as that is the one thing that every pool takes along: put into a copy at the last moment, and
taken out before Celery makes of it what a task meets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery.app.task import Context
from celery.concurrency.base import BasePool

from sluice_agent.signals.header import HEADER, taken
from sluice_agent.signals.listening import listen
from sluice_agent.signals.run import take_note

_REQUEST = 2  # its place among the arguments with which a worker has a pool execute a task
_ARGS = 1  # the place of those among what the pool itself is called with
_WITHOUT = "the processes of a worker report one run under two ids"


def watch_handing(note_of: Callable[[Any], Mapping[str, str]]) -> None:
    """Hand over what `note_of` says of a worker's request, and take it where the task's own request is made."""

    def giving(original: Callable[..., Any]) -> Callable[..., Any]:
        def apply_async(pool: BasePool, *given: Any, **options: Any) -> Any:
            note = note_of(getattr(options.get("accept_callback"), "__self__", None))
            args = options.get("args", given[_ARGS] if len(given) > _ARGS else None)
            if note and type(args) is tuple and len(args) > _REQUEST and type(args[_REQUEST]) is dict:
                args = (*args[:_REQUEST], {**args[_REQUEST], HEADER: note}, *args[_REQUEST + 1 :])
                if "args" in options:
                    options["args"] = args
                else:
                    given = (*given[:_ARGS], args, *given[_ARGS + 1 :])
            return original(pool, *given, **options)

        return apply_async

    def taking(original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(context: Context, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it takes the method's place
            note = taken(args[0]) if args and type(args[0]) is dict else None
            original(context, *args, **kwargs)
            if note is not None:
                take_note(context, note)

        return __init__

    def preparing(original: Callable[..., Any]) -> Callable[..., Any]:
        def __init__(pool: BasePool, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it takes the method's place
            original(pool, *args, **kwargs)
            listen(type(pool), "apply_async", giving, without=_WITHOUT)  # a pool of somebody's may have its own

        return __init__

    listen(BasePool, "__init__", preparing, without=_WITHOUT)
    listen(BasePool, "apply_async", giving, without=_WITHOUT)
    listen(Context, "__init__", taking, without=_WITHOUT)
