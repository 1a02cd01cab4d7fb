"""The demo's output while it runs: one changing line on a terminal, plain lines at intervals elsewhere."""

from __future__ import annotations

import sys
import time

INTERVAL = 2.0
"""Seconds between two plain lines."""

BAR_WIDTH = 20


def echo(text: str) -> None:
    """Print a line without buffering."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Progress:
    """The progress of the jobs."""

    def __init__(self) -> None:
        self._start = self._printed_at = time.monotonic()
        self._on_terminal = sys.stdout.isatty()
        self._line = ""

    def show(self, published: int, known: int, ended: int) -> None:
        """Print the progress; if not on a terminal, at most every `INTERVAL` seconds."""
        now = time.monotonic()
        self._line = f"{now - self._start:5.1f} s   {published} published   {known} known to Sluice   {ended} ended"
        if self._on_terminal:
            filled = BAR_WIDTH * ended // max(known, 1)
            sys.stdout.write(f"\r{'█' * filled}{'░' * (BAR_WIDTH - filled)} {self._line}\x1b[K")
            sys.stdout.flush()
        elif now - self._printed_at >= INTERVAL:
            self._printed_at = now
            echo(self._line)

    def end(self) -> None:
        """Print the final line."""
        echo("" if self._on_terminal else self._line)
