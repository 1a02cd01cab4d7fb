"""Reports that are made a little later, if nothing has contradicted them by then."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from math import inf

_SET_BACK_SECONDS = 60.0  # a clock that goes back by more was set: timers keep the time that is left to them


class Timers:
    """Callbacks by the time at which they are due. Their owner sets the time: no clock is read here."""

    def __init__(self) -> None:
        self.now = 0.0
        """Wall clock, in seconds of the epoch, as it was set last."""
        self.next_number = 0
        """Number of timers started so far: each has a number, from 0 on."""
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._facts: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._calls)

    def report_after(self, seconds: float, report: Callable[[], None]) -> None:
        """Call `report` in `seconds`, or at shutdown: it reports a fact, and waits only for more detail."""
        self._facts[self.next_number] = None
        self._start(seconds, report)

    def infer_after(self, seconds: float, infer: Callable[[], None]) -> None:
        """Call `infer` in `seconds`, but not at shutdown: it infers something from silence."""
        self._start(seconds, infer)

    def run_due(self, now: float) -> None:
        """Set the time to `now`, and call what is due."""
        if now < self.now - _SET_BACK_SECONDS:
            self._calls = [(due + now - self.now, number, callback) for due, number, callback in self._calls]
        self.now = now
        while self._calls and self._calls[0][0] <= now:
            _, number, callback = heapq.heappop(self._calls)
            self._facts.pop(number, None)
            callback()

    def advance(self, now: float) -> None:
        """Set the time to `now`, if that is later, for timers that are started next. Nothing is called."""
        self.now = max(self.now, now)

    def finish(self) -> None:
        """Call all callbacks that report facts, and drop the others."""
        while self._calls:
            _, number, callback = heapq.heappop(self._calls)
            if number in self._facts:
                del self._facts[number]
                callback()

    @property
    def oldest_fact(self) -> float:
        """Number of the oldest pending callback that reports a fact; infinite if there is none."""
        return next(iter(self._facts), inf)

    def _start(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._calls, (self.now + seconds, self.next_number, callback))
        self.next_number += 1
