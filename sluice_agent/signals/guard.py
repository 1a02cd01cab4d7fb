"""The guard around every handler of this package, which keeps our exceptions from the host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, ParamSpec, cast

from sluice_agent.async_exceptions import interrupted, is_ours
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.log import logger, warn_limited

P = ParamSpec("P")
PlainHandler = Callable[[Mapping[str, Any]], bool]
"""A handler of plain jobs, given the arguments of a signal. It returns False if the ordinary handler must be called."""

_MAX_DEPTH = 3  # nested calls of one handler: the first, one from a hook in it, one from an OS signal in that


@dataclass(frozen=True, slots=True)
class Interruption:
    """The result of a guarded handler in which an asynchronous exception struck: `error` belongs to the host."""

    error: Exception


Receiver = Callable[..., Interruption | None]
"""A receiver of signals that raises nothing."""


def guarded_receiver(sink: Sink, handler: Callable[..., None]) -> Receiver:
    """Return `handler` as a receiver of signals that never raises: an exception is counted, and logged once a minute.

    An asynchronous exception is returned, once the handler has run again: its event is emitted, or counted. A handler
    can be entered in the middle of another one, by an OS signal handler or a hook that publishes. Beyond `_MAX_DEPTH` a
    call is only counted, so that such a handler ends, however often it is called.
    """
    return _guard(sink, handler, raises=False)


def plain_receiver(sink: Sink, ordinary: Receiver, handle_plain: PlainHandler) -> Receiver:
    """Return a receiver that calls `handle_plain`, and `ordinary`, a guarded one, if that is no plain job.

    A handler of plain jobs is not entered in the middle of another: a job that begins within another is no plain one.
    """

    @wraps(ordinary)
    def handled(**named: Any) -> Interruption | None:
        try:
            if handle_plain(named):
                return None
        except BaseException as error:  # noqa: BLE001 - the promise: nothing of ours reaches the host
            fault = error
        else:
            return ordinary(**named)
        # Here, outside the `except`, exc_info() is the task's again.
        return handle_fault(sink, fault, partial(ordinary, **named))

    return handled


def guarded(sink: Sink, handler: Callable[P, None]) -> Callable[P, None]:
    """Return `handler` for the host's code to call: its exceptions are counted, asynchronous ones are raised."""
    return cast("Callable[P, None]", _guard(sink, handler, raises=True))


def guarded_plain(sink: Sink, handler: Callable[..., None], handle_plain: Callable[..., bool]) -> Callable[..., None]:
    """Return `handler`, which is guarded, with a handler of plain jobs that is called before it, and in place of it."""

    def handled(*args: Any) -> None:
        try:
            if handle_plain(*args):
                return
        except BaseException as error:  # noqa: BLE001 - the promise: nothing of ours reaches the host
            fault = error
        else:
            handler(*args)
            return
        # Here, outside the `except`, exc_info() is the task's again.
        raise_interruption(sink, fault, partial(handler, *args))

    return handled


def _guard(sink: Sink, handler: Callable[P, None], *, raises: bool) -> Callable[P, Interruption | None]:
    depths: dict[int, int] = {}

    @wraps(handler)
    def handled(*args: P.args, **kwargs: P.kwargs) -> Interruption | None:
        thread = threading.get_ident()  # a greenlet's, even if gevent or eventlet patched threads after our import
        depth = depths.get(thread, 0)
        if depth >= _MAX_DEPTH:
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
            # Here, outside the `except`, exc_info() is the task's again.
            interruption = handle_fault(sink, fault, lambda: handler(*args, **kwargs))
            if interruption is not None and raises:
                raise interruption.error
            return interruption
        finally:
            if depth:
                depths[thread] = depth
            else:
                depths.pop(thread, None)

    return handled


def handle_fault(sink: Sink, fault: BaseException, handle: Callable[[], object]) -> Interruption | None:
    """Emit or count the event of a handler that has raised `fault`."""
    frames = interrupted(fault)
    if frames is None:
        sink.drop("internal_error")
        warn_limited("handler", "Could not record an event (%s: %s): counted as dropped.", type(fault).__name__, fault)
        logger.debug("Could not record an event", exc_info=fault)
        return None
    if not all(map(is_ours, frames)):  # it struck in a hook, which may be what took too long: not called again
        sink.drop("interrupted")
    elif len(frames) > 1:  # else the handler had just returned
        try:
            handle()
        except Exception:  # noqa: BLE001 - the host gets the exception that came first
            sink.drop("interrupted")
    if isinstance(fault, Exception):
        return Interruption(fault)
    raise fault


def raise_interruption(sink: Sink, fault: BaseException, handle: Callable[[], object]) -> None:
    """Do the same, and raise what was raised asynchronously: for the host's code to call."""
    interruption = handle_fault(sink, fault, handle)
    if interruption is not None:
        raise interruption.error
