"""Dispatch of the signals around each job: direct where that is possible, and without loss of asynchronous exceptions.

While no other receiver is connected, Celery's dispatcher is not called: it takes a lock and makes three lists for each
call, which costs as much as the handlers of plain jobs do. With a second receiver it is called as ever.

A time limit that strikes in a receiver of ours must reach the task, as it does where the agent is not installed.
Celery's dispatcher swallows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from celery.app import trace

from sluice_agent.async_exceptions import interrupted
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.guard import Interruption, PlainHandler, Receiver, handle_fault


def handle_nothing(_: Mapping[str, Any]) -> bool:
    """Leave each signal to the dispatcher."""
    return False


def replace_dispatcher(
    sink: Sink,
    signal: Any,
    receiver: Receiver,
    *,
    ordinary: Receiver | None = None,
    raises: bool,
    handle_plain: PlainHandler = handle_nothing,
) -> Callable[[], None]:
    """Call `handle_plain`, and `ordinary` if that is no plain job, while `receiver`, ours, is the only one of `signal`.

    If an asynchronous exception strikes around `receiver` or in `handle_plain`, emit the event, and raise the exception
    if `raises`. That is False for signals after a run's end: nothing is left to be stopped, and Celery swallows it
    likewise. `receiver` raises nothing itself, and emits nothing twice. An exception that the dispatcher has caught
    struck before `receiver` began, or after it. Return a function that puts the dispatcher back as it was.
    """
    original = signal.send
    alone = [entry for entry in signal.receivers if entry[1] is receiver]
    may_be_direct = bool(alone) and handle_plain is not handle_nothing
    call_alone = partial(_responses, receiver, ordinary or receiver, signal=signal)

    def send(sender: Any, **named: Any) -> Any:
        is_direct = False
        try:
            is_direct = may_be_direct and signal.receivers == alone
            if is_direct and handle_plain(named):
                return []
            is_alone, is_direct = is_direct, False
            responses = call_alone(sender=sender, **named) if is_alone else original(sender, **named)
        except BaseException as error:
            if not is_direct:  # it struck in the dispatcher itself, perhaps before `receiver` was called
                receiver(signal=signal, sender=sender, **named)
                raise
            fault = error
        else:
            for called, response in responses:
                if response is not None and called is receiver:
                    _recover(response, partial(receiver, signal=signal, sender=sender, **named), raises=raises)
            return responses
        # Here, outside the `except`, exc_info() is the task's again.
        interruption = handle_fault(sink, fault, partial(receiver, signal=signal, sender=sender, **named))
        if interruption is not None and raises:
            raise interruption.error
        return []

    signal.send = send
    _rebind(original, send)

    def restore() -> None:
        signal.send = original
        _rebind(send, original)

    return restore


def _responses(receiver: Receiver, ordinary: Receiver, **named: Any) -> list[tuple[Receiver, Any]]:
    """Return what `ordinary` returns, or what it raises, as the dispatcher does of `receiver` where that is alone."""
    try:
        return [(receiver, ordinary(**named))]
    except Exception as error:  # noqa: BLE001 - an asynchronous one, that struck as it was entered or left
        return [(receiver, error)]


def _rebind(before: Callable[..., Any], after: Callable[..., Any]) -> None:
    """Replace a dispatcher where Celery has bound it as it was imported."""
    for name in ("send_prerun", "send_postrun"):
        if getattr(trace, name, None) == before:
            setattr(trace, name, after)


def _recover(response: Any, call_again: Callable[[], Any], *, raises: bool) -> None:
    error = response
    if isinstance(response, Interruption):
        error = response.error
    elif len(interrupted(response) or ()) > 1:  # it struck as the receiver was entered: else it had just returned
        call_again()
    if raises:
        raise error
