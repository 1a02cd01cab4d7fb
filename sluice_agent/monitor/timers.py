"""What is told a little later, if nothing has contradicted it by then."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from math import inf

_SET_BACK_SECONDS = 60.0  # seconds: a clock that goes back by more has been set, and time goes on


class Timers:
    """Calls by the time at which they are due. Keeps the time, which its owner winds: nothing here looks at a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        """Wall clock, in seconds of the epoch, as it was wound or advanced last."""
        self.next_number = 0
        """How many calls were asked for so far: each has a number, from 0 on."""
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._facts: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._calls)

    def call(self, seconds: float, callback: Callable[[], None], *, is_fact: bool = False) -> None:
        """Call `callback` in so many seconds; what it tells `is_fact` where it only waits for a word that says more."""
        heapq.heappush(self._calls, (self.now + seconds, self.next_number, callback))
        if is_fact:
            self._facts[self.next_number] = None
        self.next_number += 1

    def run_due(self, now: float) -> None:
        """It is `now`: call what is due."""
        if now < self.now - _SET_BACK_SECONDS:
            self._calls = [(due + now - self.now, number, callback) for due, number, callback in self._calls]
        self.now = now
        while self._calls and self._calls[0][0] <= now:
            _, number, callback = heapq.heappop(self._calls)
            self._facts.pop(number, None)
            callback()

    def advance(self, now: float) -> None:
        """It is `now`, or later: what is asked for next is due that much later. Nothing is called."""
        self.now = max(self.now, now)

    def finish(self) -> None:
        """Nothing more will be heard: call what tells what is known. The rest are guesses from silence."""
        while self._calls:
            _, number, callback = heapq.heappop(self._calls)
            if number in self._facts:
                del self._facts[number]
                callback()

    @property
    def oldest_fact(self) -> float:
        """The number of the oldest call that tells what is known and is still to come; infinite where there is none."""
        return next(iter(self._facts), inf)
