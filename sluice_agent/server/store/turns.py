"""Who writes to a file next.

SQLite itself lets a connection that has to wait sleep, up to 0.1 s, and look again: beside one that writes all the time
it would rarely find the file free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_MOST_PASSED = 8  # times that a bulk transaction lets others go first


class Turns:
    """The turns of the threads that write to one file. Those that wait have it in their order, bulk transactions after
    the others: these are short, and a bulk transaction keeps those that come after it waiting."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_taken = False
        self._others: deque[Lock] = deque()
        self._bulk: deque[Lock] = deque()
        self._passed = 0

    @property
    def waiting(self) -> int:
        """The number of threads that wait."""
        return len(self._others) + len(self._bulk)

    @contextmanager
    def take(self, *, bulk: bool = False) -> Iterator[None]:
        """Return a block in which no other thread has its turn."""
        turn = Lock()
        turn.acquire()
        with self._lock:
            (self._bulk if bulk else self._others).append(turn)
            if not self._is_taken:
                self._give()
        turn.acquire()
        try:
            yield
        finally:
            with self._lock:
                self._give()

    def _give(self) -> None:
        """Give the turn to the next thread."""
        is_bulk = self._bulk and (not self._others or self._passed >= _MOST_PASSED)
        self._passed = 0 if is_bulk or not self._bulk else self._passed + 1
        waiting = self._bulk if is_bulk else self._others
        self._is_taken = bool(waiting)
        if waiting:
            waiting.popleft().release()
