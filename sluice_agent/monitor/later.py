"""What is told a little later, if nothing has contradicted it by then."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Later:
    """Calls by the time at which they are due. Keeps the time, which its owner winds: nothing here looks at a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        """Wall clock, in seconds of the epoch, as it was wound last."""
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._calls)

    def call(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` in so many seconds."""
        heapq.heappush(self._calls, (self.now + seconds, next(self._order), action))

    def wind(self, now: float) -> None:
        """It is `now`: call what is due."""
        self.now = now
        while self._calls and self._calls[0][0] <= now:
            heapq.heappop(self._calls)[2]()
