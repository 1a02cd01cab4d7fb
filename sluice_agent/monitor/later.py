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
        self._calls: list[tuple[float, int, Callable[[], None], bool]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._calls)

    def call(self, seconds: float, action: Callable[[], None], *, is_known: bool = False) -> None:
        """Call `action` in so many seconds; what it tells `is_known` where it only waits for a word that says more."""
        heapq.heappush(self._calls, (self.now + seconds, next(self._order), action, is_known))

    def wind(self, now: float) -> None:
        """It is `now`: call what is due."""
        self.now = now
        while self._calls and self._calls[0][0] <= now:
            heapq.heappop(self._calls)[2]()

    def finish(self) -> None:
        """Nothing more will be heard: call what tells what is known. The rest are guesses from silence."""
        calls, self._calls = sorted(self._calls), []
        for _, _, action, is_known in calls:
            if is_known:
                action()
