"""Dispatch of the signals around each job: direct where that is possible, and without loss of asynchronous exceptions.

While no other receiver is connected, and the job is a plain one, Celery's dispatcher is not called: it takes a lock and
makes three lists for each call, which costs as much as the handlers of plain jobs do. With a second receiver, and for
any other job, it is called as ever.

A time limit that strikes in a receiver of ours must reach the task, as it does where the agent is not installed.
Celery's dispatcher swallows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery.app import trace

from sluice_agent.async_exceptions import interrupted
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.guard import Interruption, PlainHandler, handle_fault


def handle_nothing(_: Mapping[str, Any]) -> bool:
    """Leave each signal to the dispatcher."""
    return False


def replace_dispatcher(
    sink: Sink,
    signal: Any,
    receiver: Callable[..., Interruption | None],
    *,
    raises: bool,
    handle_plain: PlainHandler = handle_nothing,
) -> Callable[[], None]:
    """Call `handle_plain` while `receiver`, ours, is the only one of `signal`, and pass asynchronous exceptions.

    If an asynchronous exception strikes around `receiver` or in `handle_plain`, emit the event, and raise the exception
    if `raises`. That is False for signals after a run's end: nothing is left to be stopped, and Celery swallows it
    likewise. `receiver` raises nothing itself, and emits nothing twice. An exception that the dispatcher has caught
    struck before `receiver` began, or after it. Return a function that puts the dispatcher back as it was.
    """
    original = signal.send

    def send(sender: Any, **named: Any) -> Any:
        is_direct = False
        try:
            receivers = signal.receivers
            is_direct = len(receivers) == 1 and receivers[0][1] is receiver
            if is_direct and handle_plain(named):
                return []
            is_direct = False
            responses = original(sender, **named)
        except BaseException as error:
            if not is_direct:  # it struck in the dispatcher itself, perhaps before `receiver` was called
                receiver(signal=signal, sender=sender, **named)
                raise
            fault = error
        else:
            for called, response in responses:
                if response is not None and called is receiver:
                    _recover(response, lambda: receiver(signal=signal, sender=sender, **named), raises=raises)
            return responses
        # Here, outside the `except`, exc_info() is the task's again.
        interruption = handle_fault(sink, fault, lambda: receiver(signal=signal, sender=sender, **named))
        if interruption is not None and raises:
            raise interruption.error
        return []

    signal.send = send
    _rebind(original, send)

    def restore() -> None:
        signal.send = original
        _rebind(send, original)

    return restore


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
