"""The `Sink` that an observer passes its events to, with the settings by which they are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sluice_agent.lifecycle.redaction import Redact


@dataclass(slots=True)  # not frozen: `sluice_agent.testing` exchanges the fields of an installed agent's for a while
class Sink:
    """The destination of events, and the settings by which they are made.

    `emit` takes an event, as the line that is sent; `drop` counts one that could not be made, by reason.
    """

    emit: Callable[[bytes], None]
    drop: Callable[[str], None]
    connection_id: str
    is_ignored: Callable[[str], bool] = lambda _: False
    """Whether the jobs of a task, given by its name, are not reported."""
    redact: Redact | None = None
    """The function that arguments and results pass through; None: they are not captured."""
    can_keep: Callable[[], bool] = lambda: True
    """True if an event that is emitted now can be written to the journal."""
    emit_all: Callable[[Sequence[bytes]], None] | None = None
    """Takes several events at once; None: `emit` takes each."""

    def emit_together(self, lines: Sequence[bytes]) -> None:
        """Emit several events, at once if that is possible."""
        if self.emit_all is not None:
            self.emit_all(lines)
            return
        for line in lines:
            self.emit(line)
