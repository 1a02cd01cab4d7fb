"""The deadline of an exchange: its socket is shut when the time is over, whatever the exchange waits for.

httpx's timeouts begin again with each byte. No signal and no asyncio is needed: it works in threads and with gevent.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Literal, TypeAlias

Reason: TypeAlias = Literal["deadline", "aborted"]


class Watchdog:
    """Ends one exchange after `seconds`, or when `abort` is called from another thread. Used as a context, once."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, self._end, ["deadline"])
        self._timer.daemon = True  # an exchange that a process leaves behind must not keep it
        self._lock = threading.RLock()  # a signal handler may abort what its own thread has interrupted
        self._sockets: list[socket.socket] = []
        self._ended_by: Reason | None = None
        self._is_over = False

    def __enter__(self) -> Watchdog:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._is_over = True
            for copy in self._sockets:
                copy.close()
            self._sockets.clear()

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; 0 if the exchange has been ended."""
        return 0.0 if self.ended_by else max(self._deadline - time.monotonic(), 0.0)

    @property
    def ended_by(self) -> Reason | None:
        """What has ended the exchange; None if it may go on."""
        if self._ended_by is None and time.monotonic() >= self._deadline:
            return "deadline"  # its thread has not run yet
        return self._ended_by

    def watch(self, connection: socket.socket) -> None:
        """Shut `connection` when the exchange is ended, at once if it has been."""
        # A copy: TLS replaces the socket, and the number of a closed one may be that of another connection.
        copy = socket.socket(connection.family, connection.type, connection.proto, os.dup(connection.fileno()))
        with self._lock:
            self._sockets.append(copy)
            if self._ended_by is not None:
                _shut(copy)

    def abort(self) -> None:
        """End the exchange now, if it has not ended."""
        self._end("aborted")

    def _end(self, reason: Reason) -> None:
        with self._lock:
            if self._ended_by is None and not self._is_over:
                self._ended_by = reason
                for copy in self._sockets:
                    _shut(copy)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):  # the other end has closed it
        connection.shutdown(socket.SHUT_RDWR)
