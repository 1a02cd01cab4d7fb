"""What the benchmark of pages makes of its measurements, and that each page it measures exists."""

from __future__ import annotations

import math
from pathlib import Path

from tests.benchmarks.filled_server import end_of_data, fill_database, filled_server
from tests.benchmarks.page_times import (
    Answer,
    PageTimes,
    addresses_of_runs,
    measurements,
    page_addresses,
    times_of,
)
from tests.benchmarks.percentiles import percentile
from tests.benchmarks.row_delay import Change, delays, summary
from tests.benchmarks.run_rows import fill

QUEUED, ACTIVE, COMPLETED = (Change("a", state) for state in ("queued", "active", "completed"))


def test_a_delay_ends_with_the_first_row_that_shows_the_change() -> None:
    """A row that is painted again would otherwise make the page look slow."""
    assert delays({QUEUED: 1_000.0}, [(QUEUED, 1_400.0), (QUEUED, 1_120.0), (Change("b", "queued"), 1_001.0)]) == [120]


def test_a_later_state_shows_the_earlier_ones() -> None:
    """A job that was queued and active between two frames has never a row that says queued."""
    answers = {QUEUED: 1_000.0, ACTIVE: 1_050.0, COMPLETED: 1_300.0}
    assert delays(answers, [(ACTIVE, 1_100.0), (COMPLETED, 1_500.0)]) == [100, 50, 200]
    assert delays({COMPLETED: 1_300.0}, [(ACTIVE, 1_100.0)]) == [math.inf]


def test_a_row_before_the_answer_is_no_delay() -> None:
    """Negative delays would hide others in the median."""
    assert delays({QUEUED: 1_000.0}, [(QUEUED, 990.0)]) == [0]


def test_changes_that_no_row_shows_count_as_the_longest() -> None:
    """A page that leaves rows out would otherwise look faster than one that shows all."""
    result = summary([100.0] * 18 + [math.inf] * 2)
    assert (result.sent, result.shown, result.p50, result.p95) == (20, 18, 100, math.inf)


def test_percentiles_are_values_of_the_sample() -> None:
    """Of a few requests, the 95th percentile is the slowest one."""
    assert percentile([3.0, 1.0, 2.0], 50) == 2
    assert percentile([3.0, 1.0, 2.0], 95) == 3
    assert percentile([float(value) for value in range(100)], 95) == 95


def test_the_first_request_is_apart() -> None:
    """It fills caches: in the median it would hide how fast the page is, and alone nobody would see it."""
    answers = [Answer(milliseconds, 10_000) for milliseconds in (20.0, 30.0, 40.0)]
    assert times_of(Answer(500.0, 11_000), answers, cpu=9) == PageTimes(500, 30, 40, 9, 11_000)


def test_a_page_meets_the_demand_by_time_and_size() -> None:
    """The table would otherwise say yes to what was not reached."""
    assert PageTimes(500, 20, 100, 9, 60_000).meets_demand
    assert not PageTimes(20, 20, 101, 9, 60_000).meets_demand
    assert not PageTimes(20, 20, 100, 9, 60_001).meets_demand


def test_each_page_is_there(tmp_path: Path) -> None:
    """The benchmark would end with an error after minutes, or measure the page of an error."""
    database = tmp_path / "pages.db"
    fill_database(database, 2_000)
    fill(database, 2_000, end_of_data())
    addresses = page_addresses(database) | addresses_of_runs(database)
    with filled_server(database) as server:
        measured = dict(measurements(server, addresses, requests=1))
    assert measured.keys() == addresses.keys()
    assert all(times.size > 1_000 for times in measured.values())
