"""Follow the stream of a connection: whatever breaks off, go on after the last event that was received."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from sluice_agent.client.errors import ApiError, TemporaryError
from sluice_agent.client.server_sent_events import parse

Open = Callable[[str | None], AbstractContextManager[Iterator[bytes]]]
"""Opens the stream after an id, from now on without one."""

_LONGEST_DELAY = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class Change:
    """An event of the stream, such as ``job:state_change``, with its data."""

    event: str
    data: dict[str, Any]


@dataclass(slots=True)
class BackOff:
    """The seconds before each further try: they double, and differ by chance from those of other clients."""

    random: Callable[[], float]
    first: float = 1.0
    _tries: int = field(default=0, init=False)

    def next_delay(self) -> float:
        """Return the seconds to wait now."""
        delay = min(_LONGEST_DELAY, self.first * 2.0**self._tries)
        self._tries = min(self._tries + 1, 10)
        return delay * (0.5 + self.random() / 2)

    def succeed(self) -> None:
        """Begin again with the first delay."""
        self._tries = 0


def follow(
    open_stream: Open, back_off: BackOff, sleep: Callable[[float], None], notice: Callable[[str], None]
) -> Iterator[Change]:
    """Yield every change, without end. `notice` gets a sentence when the stream breaks off, and when it goes on.

    Raises `ApiError` if the stream can't be opened at first, or is refused later.
    """
    last_id: str | None = None
    is_first = True
    while True:
        reason = "the server ended it"
        try:
            with open_stream(last_id) as chunks:
                if not is_first:
                    notice("The stream goes on.")
                is_first = False
                for event in parse(chunks):
                    back_off.succeed()
                    last_id = event.id or last_id
                    back_off.first = event.retry / 1_000 if event.retry else back_off.first
                    if event.event == "stream:reset":
                        notice(_describe_reset(event.data))
                    elif event.data:
                        yield Change(event.event, _object(event.data))
        except TemporaryError as error:
            if is_first:
                raise
            reason = error.reason
        delay = back_off.next_delay()
        notice(f"The stream broke off: {reason}. Trying again in {delay:.0f} s.")
        sleep(delay)


def _object(data: str) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ApiError(f"the stream has an event that is not JSON ({data[:100]!r}): is this a Sluice?")
    return fields


def _describe_reset(data: str) -> str:
    missed = _object(data).get("missed")
    number = f"{missed:,} changes" if isinstance(missed, int) else "an unknown number of changes"
    return f"The server no longer has what came before: {number} may be missing. `sluice-agent jobs` shows all jobs."
