"""Passing of asynchronous exceptions through Celery's dispatcher, which swallows those that strike in a receiver.

A time limit that strikes in a receiver of ours must reach the task, as it does where the agent is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.app import trace

from sluice_agent.async_exceptions import interrupted
from sluice_agent.signals.guard import Interruption


def pass_interruptions(
    signal: Any, receiver: Callable[..., Interruption | None], *, raises: bool
) -> Callable[[], None]:
    """Emit the event of `receiver` when an asynchronous exception struck around it; if `raises`, raise that exception.

    `raises` is False for signals after a run's end: nothing is left to be stopped, and Celery swallows it likewise.
    `receiver` raises nothing itself, and emits nothing twice. An exception that the dispatcher has caught struck before
    `receiver` began, or after it. Return a function that puts the dispatcher back as it was.
    """
    original = signal.send

    def send(sender: Any, **named: Any) -> Any:
        try:
            responses = original(sender, **named)
        except BaseException:  # it struck in the dispatcher itself, perhaps before `receiver` was called
            receiver(signal=signal, sender=sender, **named)
            raise
        for called, response in responses:
            if response is not None and called is receiver:
                _recover(response, lambda: receiver(signal=signal, sender=sender, **named), raises=raises)
        return responses

    signal.send = send
    for name in ("send_prerun", "send_postrun"):  # Celery binds them as it is imported
        if getattr(trace, name, None) == original:
            setattr(trace, name, send)

    def restore() -> None:
        signal.send = original
        for name in ("send_prerun", "send_postrun"):
            if getattr(trace, name, None) is send:
                setattr(trace, name, original)

    return restore


def _recover(response: Any, call_again: Callable[[], Any], *, raises: bool) -> None:
    error = response
    if isinstance(response, Interruption):
        error = response.error
    elif len(interrupted(response) or ()) > 1:  # it struck as the receiver was entered: else it had just returned
        call_again()
    if raises:
        raise error
