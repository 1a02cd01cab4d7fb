"""What the demo says while it runs: one line that changes on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time

INTERVAL = 2.0
"""Seconds between two plain lines."""

BAR = 20


def say(text: str) -> None:
    """Print a line now."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Progress:
    """How far the jobs have come."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()
        self._on_terminal = sys.stdout.isatty()
        self._line = ""

    def show(self, published: int, known: int, ended: int) -> None:
        """Say it, elsewhere than on a terminal not too often."""
        now = time.monotonic()
        self._line = f"{now - self._began:5.1f} s   {published} published   {known} known to Sluice   {ended} ended"
        if self._on_terminal:
            filled = BAR * ended // max(known, 1)
            sys.stdout.write(f"\r{'█' * filled}{'░' * (BAR - filled)} {self._line}\x1b[K")
            sys.stdout.flush()
        elif now - self._said >= INTERVAL:
            self._said = now
            say(self._line)

    def end(self) -> None:
        """Leave the last word standing."""
        say("" if self._on_terminal else self._line)
