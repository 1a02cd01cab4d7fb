"""The message by which a worker gets an attempt of the jobs API, as the task in it and the agent read it.

The message names no address and has no payload: the worker asks its own server for them. Until the server has agreed,
nothing has begun, so the agent reports nothing of such a message before the task calls `report_start`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

TASK = "sluice.run"
"""The name of the task. Its id is the run's, and it has no arguments."""

HEADER = "sluice_attempt"


@dataclass(frozen=True, slots=True)
class AttemptMessage:
    """What the header of a message holds beside the run's id."""

    attempt: int
    """From 1."""
    ticket: str
    """With which the attempt may be started."""
    until: float
    """The end of the claim, in seconds since 1970: nothing is started after it."""

    def headers(self) -> dict[str, Any]:
        """Return the headers of the message."""
        return {HEADER: asdict(self)}


def read(request: Mapping[str, Any]) -> AttemptMessage | None:
    """Return what the headers of a message hold; None if they are those of another message."""
    fields = request.get(HEADER)
    if not fields:
        return None
    try:
        message = AttemptMessage(int(fields["attempt"]), str(fields["ticket"]), float(fields["until"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return message if math.isfinite(message.until) else None


_receivers: list[Callable[[Any], None]] = []


def on_start(receiver: Callable[[Any], None]) -> Callable[[], None]:
    """Have `receiver` called with the task of each attempt that begins in this process; return what ends that."""
    _receivers.append(receiver)
    return lambda: _receivers.remove(receiver)


def report_start(task: Any) -> None:
    """Report that the server has agreed, and the attempt begins."""
    for receiver in tuple(_receivers):
        receiver(task)
