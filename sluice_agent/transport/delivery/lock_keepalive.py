"""The sign that the shipping process's threads run: a thread touches the lock file, as a request may take a minute.

Where the file's time stands still (uWSGI without threads, a call in C that keeps the GIL, SIGSTOP, a child that kept
the lock of a process that was killed) the next process takes the lock: see `ship_lock`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from sluice_agent.transport.delivery.http import THREAD_NAME
from sluice_agent.transport.journal.ship_lock import ShipLock


class LockKeepalive:
    """Touches `lock` while this process holds it, and while `is_moving()`: the shipping thread is not stuck."""

    def __init__(self, lock: ShipLock, is_moving: Callable[[], bool], every: float) -> None:
        self._lock = lock
        self._is_moving = is_moving
        self._every = every
        self._stopped = threading.Event()

    def start(self) -> None:
        """Touch the lock from a thread, until `stop`. Without a thread, another process may take over."""
        with suppress(RuntimeError):  # a limit of threads, or an interpreter that ends
            threading.Thread(target=self._run, name=f"{THREAD_NAME}-keepalive", daemon=True).start()

    def stop(self) -> None:
        """Signal the thread to end, without waiting for it."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            if self._is_moving():
                self._lock.touch()
