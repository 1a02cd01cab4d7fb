"""The lines that the tracker has made of one message, emitted together."""

from __future__ import annotations

from sluice_agent.lifecycle.sink import Sink

_MAX_LINES = 1_000  # that are kept in memory


class PendingLines:
    """A list of lines for `sink`, used by one thread, which calls `flush` when a message is processed."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lines: list[bytes] = []

    def add(self, line: bytes) -> None:
        """Add a line."""
        self._lines.append(line)
        if len(self._lines) >= _MAX_LINES:
            self.flush()

    def flush(self) -> None:
        """Emit all lines."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._sink.emit_together(lines)
