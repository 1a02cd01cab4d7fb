"""How what is raised asynchronously passes Celery's dispatcher, which swallows what strikes while a receiver runs.

A time limit that strikes in a receiver of ours must reach the task, as it does where the agent is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.app import trace

from sluice_agent.async_exceptions import interrupted
from sluice_agent.signals.context import Interruption


def pass_interruptions(signal: Any, receiver: Callable[..., Interruption | None], *, raises: bool) -> None:
    """See to the event of `receiver` where something struck around it; where it `raises`, the host gets that.

    Not where a run is over: nothing is left to be stopped then, and Celery swallows it likewise. `receiver` raises
    nothing itself, and emits nothing twice. What the dispatcher has caught struck before `receiver` could, or after it.
    """
    original = signal.send

    def send(sender: Any, **named: Any) -> Any:
        try:
            responses = original(sender, **named)
        except BaseException:  # struck in the dispatcher's own steps, perhaps before it came to `receiver`
            receiver(signal=signal, sender=sender, **named)
            raise
        for answered, response in responses:
            if response is not None and answered is receiver:
                _deal_with(response, lambda: receiver(signal=signal, sender=sender, **named), raises=raises)
        return responses

    signal.send = send
    for name in ("send_prerun", "send_postrun"):  # bound as Celery is imported
        if getattr(trace, name, None) == original:
            setattr(trace, name, send)


def _deal_with(response: Any, again: Callable[[], Any], *, raises: bool) -> None:
    error = response
    if isinstance(response, Interruption):
        error = response.error
    elif len(interrupted(response) or ()) > 1:  # as the receiver was entered: else it had just returned
        again()
    if raises:
        raise error
