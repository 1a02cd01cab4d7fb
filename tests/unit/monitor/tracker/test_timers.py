"""Reports that are held for a moment, and for no longer."""

from __future__ import annotations

from math import inf

from sluice_agent.monitor.tracker.timers import Timers
from tests.unit.monitor.cluster import START, Cluster


def test_a_clock_that_is_set_back_delays_nothing() -> None:
    """Without it a container whose clock is corrected by an hour holds for an hour what it was to report at once."""
    timers, called = Timers(), []
    timers.run_due(10_000.0)
    timers.report_after(1.0, lambda: called.append("first"))
    timers.report_after(2.0, lambda: called.append("second"))
    timers.run_due(6_400.0)
    assert (called, timers.oldest_fact) == ([], 0)
    timers.run_due(6_401.0)
    assert (called, timers.oldest_fact) == (["first"], 1)
    timers.run_due(6_402.0)
    assert (called, timers.oldest_fact) == (["first", "second"], inf)


def test_a_report_is_held_from_the_time_of_its_event() -> None:
    """Without it a job that is published just before a tick is reported although its receipt follows at once."""
    cluster = Cluster()
    cluster.tracker.advance(START + 0.9)
    cluster.task("sent", queue="work")
    cluster.tracker.tick(START + 1.0)
    assert cluster.emitted == []
    cluster.tracker.tick(START + 1.9)
    assert cluster.walk() == "queued"
