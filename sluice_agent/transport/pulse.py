"""The sign of a process that ships: that its threads run. A request may take a minute, so it has a thread of its own.

It is the time of the lock's file. Where it stands still (uWSGI without threads, a call in C that keeps the GIL,
SIGSTOP, a child that kept the lock of a process that was killed) the next process takes the lock: see `lock`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from sluice_agent.transport.http import THREAD_NAME
from sluice_agent.transport.lock import ShipLock

TOUCH_EVERY = 3.0  # seconds: a host that has nothing to tell shall not write to its disk each second


class Pulse:
    """Signs `lock` while this process holds it, and while `moves` says that the thread that ships is not stuck."""

    def __init__(self, lock: ShipLock, moves: Callable[[], bool], every: float = TOUCH_EVERY) -> None:
        self._lock = lock
        self._moves = moves
        self._every = every
        self._over = threading.Event()

    def start(self) -> None:
        """Sign from a thread, until `stop`. Where there can be none another process may take over."""
        with suppress(RuntimeError):  # a limit of threads, or an interpreter that ends
            threading.Thread(target=self._run, name=f"{THREAD_NAME}-pulse", daemon=True).start()

    def stop(self) -> None:
        """End the thread; it is not waited for."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            if self._moves():
                self._lock.touch()
