"""What waits for a moment, and for no longer."""

from __future__ import annotations

from math import inf

from sluice_agent.monitor.later import Later


def test_a_clock_that_is_set_back_delays_nothing() -> None:
    """Without it a container whose clock is corrected by an hour keeps for an hour what it was to tell at once."""
    later, told = Later(), []
    later.wind(10_000.0)
    later.call(1.0, lambda: told.append("first"), is_known=True)
    later.call(2.0, lambda: told.append("second"), is_known=True)
    later.wind(6_400.0)
    assert (told, later.oldest_known) == ([], 0)
    later.wind(6_401.0)
    assert (told, later.oldest_known) == (["first"], 1)
    later.wind(6_402.0)
    assert (told, later.oldest_known) == (["first", "second"], inf)
