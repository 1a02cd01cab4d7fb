"""Exceptions that are raised asynchronously: into whatever code runs, by an OS signal handler or by another thread.

A soft time limit is the usual case, a task's own SIGALRM another. They belong to the host, even if they
strike in our code, so each handler that catches any exception checks here whether it may keep the one it has caught.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from types import FrameType

_SOFT_LIMIT = "SoftTimeLimitExceeded"  # Celery's and billiard's, which may not be imported here
_GREENLET_LIBRARIES = frozenset({"gevent", "greenlet", "eventlet"})
_OURS = frozenset({"sluice_agent", "celery", "kombu", "billiard", "vine", "amqp", "pydantic", "pydantic_core"})
_KNOWN = _OURS | sys.stdlib_module_names
_WITHOUT_ARGUMENTS = (MemoryError, StopIteration, AssertionError)  # Python itself raises these without arguments


def is_asynchronous(error: BaseException) -> bool:
    """Return whether `error` struck from outside, and belongs to the host; else the called code has raised it."""
    return interrupted(error) is not None


def interrupted(error: BaseException) -> tuple[FrameType, ...] | None:
    """Return the frames that an asynchronous `error` has interrupted, outermost first; None if it is not asynchronous.

    An OS signal handler is recognised by its argument: the frame that it interrupts, which is also its caller. An
    exception that another thread sets (``PyThreadState_SetAsyncExc``) or a hub throws adds no frame. It is recognised
    by a type that no code in that frame raises, or by its lack of arguments, as it is made from its class alone.
    """
    frames = _frames(error)
    for number, (caller, callee) in enumerate(pairwise(frames), start=1):
        if _refers_to(callee, caller):
            return frames[:number]
    if not isinstance(error, Exception) or (frames and _is_from_outside(error, _root(frames[-1]))):
        return frames
    return None


def is_ours(frame: FrameType) -> bool:
    """Return whether `frame` runs this package or a library that it calls: not the host's code, nor a user's hook."""
    return _root(frame) in _KNOWN


def _frames(error: BaseException) -> tuple[FrameType, ...]:
    frames = []
    entry = error.__traceback__
    while entry is not None:
        frames.append(entry.tb_frame)
        entry = entry.tb_next
    return tuple(frames)


def _refers_to(frame: FrameType, target: FrameType) -> bool:
    for value in frame.f_locals.values():
        if value is target or (type(value) is tuple and any(item is target for item in value)):
            return True
    return False


def _is_from_outside(error: BaseException, running: str) -> bool:
    """Return whether the code that was `running` (a package's name) can't have raised `error`."""
    kinds = type(error).__mro__
    if any(kind.__name__ == _SOFT_LIMIT for kind in kinds):
        return True
    if running not in _KNOWN and running not in _GREENLET_LIBRARIES:
        return False  # the host's code, which may raise anything
    if kinds[0].__module__.partition(".")[0] not in _KNOWN:
        return True
    has_no_arguments = not error.args and not isinstance(error, _WITHOUT_ARGUMENTS)
    return has_no_arguments and (running == "sluice_agent" or running in _GREENLET_LIBRARIES)


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
