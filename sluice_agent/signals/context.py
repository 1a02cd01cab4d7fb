"""What every handler in this room is given: where events go, how they are made, and what the user does not want."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec

from sluice_agent.async_exceptions import interrupted, is_ours
from sluice_agent.log import complain, logger
from sluice_agent.redaction import Redact

P = ParamSpec("P")

_DEEPEST = 3  # handlers of one signal, each in the middle of the one before: one, a hook in it, an OS signal in that


@dataclass(frozen=True, slots=True)
class Sink:
    """The handlers' surroundings.

    `emit` takes an event, as the line that is sent; `drop` counts one that could not be made, by reason.
    """

    emit: Callable[[bytes], None]
    drop: Callable[[str], None]
    connection_id: str
    is_ignored: Callable[[str], bool]
    redact: Redact | None
    """Arguments and results pass through it; None: they are not captured."""
    can_keep: Callable[[], bool] = lambda: True
    """Whether what is emitted now can be written down."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """What a guarded handler returns where an asynchronous exception struck in it: `error` belongs to the host."""

    error: Exception


def guarded_receiver(sink: Sink, handler: Callable[P, None]) -> Callable[P, Interruption | None]:
    """`handler` as a receiver of signals: what it raises is counted and logged once a minute; nothing is raised.

    What was raised asynchronously is returned, once the handler has run again: its event is emitted, or counted. A
    handler can be entered in the middle of another one, by an OS signal handler or a hook that publishes. Beyond
    `_DEEPEST` it is only counted, so that such a handler, however often it is called, ends.
    """
    depths: dict[int, int] = {}

    @wraps(handler)
    def handled(*args: P.args, **kwargs: P.kwargs) -> Interruption | None:
        thread = threading.get_ident()  # a greenlet's, also where gevent or eventlet came after us
        depth = depths.get(thread, 0)
        if depth >= _DEEPEST:
            sink.drop("reentrant")
            return None
        try:
            depths[thread] = depth + 1
            try:
                handler(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - the promise: nothing of ours reaches the host
                fault = error
            else:
                return None
            return _dealt_with(sink, fault, lambda: handler(*args, **kwargs))  # where exc_info() is the task's again
        finally:
            if depth:
                depths[thread] = depth
            else:
                depths.pop(thread, None)

    return handled


def guarded(sink: Sink, handler: Callable[P, None]) -> Callable[P, None]:
    """`handler` as code of the host calls it: what it raises is counted; what was raised asynchronously goes on."""
    handle = guarded_receiver(sink, handler)

    @wraps(handler)
    def handled(*args: P.args, **kwargs: P.kwargs) -> None:
        interruption = handle(*args, **kwargs)
        if interruption is not None:
            raise interruption.error

    return handled


def _dealt_with(sink: Sink, fault: BaseException, handle: Callable[[], None]) -> Interruption | None:
    """See to the event of a handler that has raised `fault`."""
    frames = interrupted(fault)
    if frames is None:
        sink.drop("internal_error")
        complain("handler", "An event could not be told (%s: %s); it is counted.", type(fault).__name__, fault)
        logger.debug("An event could not be told", exc_info=fault)
        return None
    if not all(map(is_ours, frames)):  # in a hook, which may be what has taken so long
        sink.drop("interrupted")
    elif len(frames) > 1:  # else the handler had just returned
        try:
            handle()
        except Exception:  # noqa: BLE001 - the host gets the exception that came first
            sink.drop("interrupted")
    if isinstance(fault, Exception):
        return Interruption(fault)
    raise fault
