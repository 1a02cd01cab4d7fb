"""How many things happened a minute: the one place where a count becomes a rate."""

from __future__ import annotations

from typing import NamedTuple

from sluice_agent.server.pages.formats import number

_LEAST_KNOWN = 5  # minutes from which a count shows a rate


class Rate(NamedTuple):
    """A number of things, and the minutes of which it is known."""

    total: int
    minutes: float

    @property
    def a_minute(self) -> float:
        """The number divided by the minutes."""
        return self.total / self.minutes

    @property
    def text(self) -> str:
        """The rate, of a small one with more digits; of a time of less than five minutes, number and time."""
        if self.minutes < _LEAST_KNOWN:
            return f"{number(self.total)} in {self.minutes:.0f} min"
        rate = self.a_minute
        if rate >= 10 or not rate:
            return number(round(rate))
        return f"{rate:.1f}" if rate >= 1 else f"{max(rate, 0.01):.2f}"
