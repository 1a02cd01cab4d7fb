"""Exceptions that are raised asynchronously: into whatever code runs, by an OS signal handler or by another thread.

A soft time limit is the usual case, a task's own SIGALRM another. They belong to the host, also where they strike in
code of ours, so every place that catches what it does not know asks here whether it may keep what it has caught.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from types import FrameType

_SOFT_LIMIT = "SoftTimeLimitExceeded"  # Celery's and billiard's, which may not be imported here
_SWITCHING = frozenset({"gevent", "greenlet", "eventlet"})
_OURS = frozenset({"sluice_agent", "celery", "kombu", "billiard", "vine", "amqp", "pydantic", "pydantic_core"})
_KNOWN = _OURS | sys.stdlib_module_names
_WITHOUT_WORDS = (MemoryError, StopIteration, AssertionError)  # what Python itself raises without arguments


def is_asynchronous(error: BaseException) -> bool:
    """Whether `error` struck from outside, and goes to the host; else the code that was called has raised it."""
    return interrupted(error) is not None


def interrupted(error: BaseException) -> tuple[FrameType, ...] | None:
    """The frames that an asynchronous `error` has interrupted, outermost first; None where it is not asynchronous.

    An OS signal handler is known by its argument: the frame that it interrupts, which is also its caller. What another
    thread sets (``PyThreadState_SetAsyncExc``) or a hub throws is in no frame of its own. It is known by a type that
    nothing of what runs there raises, or by its lack of arguments, as it is made from its class alone.
    """
    frames = _frames(error)
    for number, (caller, callee) in enumerate(pairwise(frames), start=1):
        if _holds(callee, caller):
            return frames[:number]
    if not isinstance(error, Exception) or (frames and _was_set(error, _root(frames[-1]))):
        return frames
    return None


def is_ours(frame: FrameType) -> bool:
    """Whether `frame` runs this package, or what it calls: not the host's code, and no hook of the user's."""
    return _root(frame) in _KNOWN


def _frames(error: BaseException) -> tuple[FrameType, ...]:
    frames = []
    entry = error.__traceback__
    while entry is not None:
        frames.append(entry.tb_frame)
        entry = entry.tb_next
    return tuple(frames)


def _holds(frame: FrameType, wanted: FrameType) -> bool:
    for value in frame.f_locals.values():
        if value is wanted or (type(value) is tuple and any(item is wanted for item in value)):
            return True
    return False


def _was_set(error: BaseException, running: str) -> bool:
    """Whether what was `running` (a package's name) can't have raised `error`."""
    kinds = type(error).__mro__
    if any(kind.__name__ == _SOFT_LIMIT for kind in kinds):
        return True
    if running not in _KNOWN and running not in _SWITCHING:
        return False  # the host's code, which may raise anything
    if kinds[0].__module__.partition(".")[0] not in _KNOWN:
        return True
    says_nothing = not error.args and not isinstance(error, _WITHOUT_WORDS)
    return says_nothing and (running == "sluice_agent" or running in _SWITCHING)


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
