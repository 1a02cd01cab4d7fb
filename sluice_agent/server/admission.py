"""How many requests with events the server holds at a time: events that are read take six times their JSON's memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

_Result = TypeVar("_Result")
_THREADS = 2  # that identify senders


class BusyError(Exception):
    """As many requests wait as the server can hold. Sending again in a second is right."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Requests that are read and written at a time; requests that wait for that, and their bytes."""

    admitted: int = 3
    waiting: int = 64
    waiting_bytes: int = 32_000_000


ADMISSION_LIMITS = AdmissionLimits()


class Admission:
    """Lets requests in one after the other. Used in one event loop only."""

    def __init__(self, limits: AdmissionLimits = ADMISSION_LIMITS) -> None:
        self._limits = limits
        self._places = asyncio.Semaphore(limits.admitted)
        self._threads = ThreadPoolExecutor(_THREADS, "ingest")
        self._parser = ThreadPoolExecutor(1, "parser")  # a second one would only wait for it, and others for both
        self._waiting = 0
        self._waiting_bytes = 0

    async def run(self, function: Callable[[], _Result]) -> _Result:
        """Return the result of `function`, called in one of a few threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def parse(self, function: Callable[[], _Result]) -> _Result:
        """Return the result of `function`, called in the one thread that parses."""
        return await asyncio.get_running_loop().run_in_executor(self._parser, function)

    @asynccontextmanager
    async def admit(self, size: int) -> AsyncIterator[None]:
        """Return a block that is entered when there is a place for a request of `size` bytes.

        Raises `BusyError` if too many wait.
        """
        is_full = self._waiting >= self._limits.waiting or self._waiting_bytes + size > self._limits.waiting_bytes
        if is_full and self._waiting:
            raise BusyError
        self._waiting += 1
        self._waiting_bytes += size
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size
        try:
            yield
        finally:
            self._places.release()
