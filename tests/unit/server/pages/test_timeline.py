"""The timeline of a job: bands, lanes, folds and clocks that disagree."""

from __future__ import annotations

from typing import Any

from sluice_agent.server.pages.timeline import MOST_LANES, MOST_SKEWS, Timeline, timeline_of
from sluice_agent.server.record.summary import walk
from sluice_agent.server.timestamps import moment_of, timestamp_of
from tests.support.records import steps_of
from tests.unit.server.events import at, job_event

HOUR = 3_599  # seconds: the last moment that events of tests can have


def timeline(*events: dict[str, Any], now: float = 100) -> Timeline:
    moment = moment_of(at(now))
    assert moment is not None
    walked = walk(steps_of(list(events)))
    return timeline_of([*walked.past, walked.summary.history], walked.summary, moment)


def kinds(drawn: Timeline) -> list[list[tuple[str, float]]]:
    """Return the bands of each lane, with their seconds."""
    return [[(band.kind, band.milliseconds / 1_000) for band in lane.bands] for lane in drawn.lanes]


def test_waits_runs_and_retries_are_bands_in_the_lane_of_their_attempt() -> None:
    """Who asks why a job took an hour could not see whether it waited, ran or was retried."""
    drawn = timeline(
        job_event("queued", 0, createdAt=at(0)),
        job_event("active", 2, startedAt=at(2), attempt=1),
        job_event("retrying", 5, startedAt=at(2), attempt=1),
        job_event("active", 9, startedAt=at(9), attempt=2),
        job_event("completed", 10, startedAt=at(9), completedAt=at(10), attempt=2),
    )
    assert kinds(drawn) == [[("queued", 2), ("active", 3), ("retrying", 4)], [("active", 1)]]
    assert [(lane.run.attempt, lane.run.state) for lane in drawn.lanes] == [(1, "retrying"), (2, "completed")]
    assert [band.x for lane in drawn.lanes for band in lane.bands] == [0, 20, 50, 90]
    assert drawn.lanes[1].end == 100
    assert (drawn.is_open, drawn.milliseconds, drawn.folds) == (False, 10_000, [])
    assert [tick.label for tick in drawn.ticks] == ["0", "5 s", "10 s"]


def test_the_wait_for_an_eta_is_not_the_wait_for_a_worker() -> None:
    """A job that was scheduled for later would look as if workers were too slow."""
    drawn = timeline(
        job_event("scheduled", 0, createdAt=at(0), extensions={"eta": at(8)}),
        job_event("active", 10, startedAt=at(10)),
        job_event("completed", 11, startedAt=at(10), completedAt=at(11)),
    )
    assert kinds(drawn) == [[("scheduled", 8), ("queued", 2), ("active", 1)]]


def test_what_goes_on_ends_now() -> None:
    """A job that runs since an hour would look as if it had just begun."""
    drawn = timeline(job_event("queued", 0, createdAt=at(0)), job_event("active", 2, startedAt=at(2)), now=50)
    assert kinds(drawn) == [[("queued", 2), ("active", 48)]]
    assert (drawn.is_open, drawn.lanes[0].end, drawn.milliseconds) == (True, None, 50_000)
    waiting = timeline(job_event("queued", 0, createdAt=at(0)), now=50)
    assert kinds(waiting) == [[("queued", 50)]]
    retrying = timeline(
        job_event("active", 0, startedAt=at(0), attempt=1), job_event("retrying", 10, startedAt=at(0)), now=50
    )
    assert kinds(retrying) == [[("active", 10), ("retrying", 40)]]


def test_a_long_idle_time_is_folded() -> None:
    """A run of two seconds after two hours of waiting could not be seen."""
    drawn = timeline(
        job_event("queued", 0, createdAt=at(0)),
        job_event("active", HOUR - 60, startedAt=at(HOUR - 60)),
        job_event("completed", HOUR - 50, startedAt=at(HOUR - 60), completedAt=at(HOUR - 50)),
        now=HOUR,
    )
    (fold,) = drawn.folds
    assert (fold.x, fold.milliseconds) == (0, (HOUR - 60) * 1_000)
    active = drawn.lanes[0].bands[-1]
    assert (active.kind, active.x, active.width) == ("active", fold.width, 100 - fold.width)
    assert [tick.label for tick in drawn.ticks][-1] == "+10 s"


def test_a_long_run_is_never_folded() -> None:
    """The very time that a user looks for would be left out."""
    drawn = timeline(
        job_event("queued", 0, createdAt=at(0)),
        job_event("active", 1, startedAt=at(1)),
        job_event("completed", HOUR - 1, startedAt=at(1), completedAt=at(HOUR - 1)),
        now=HOUR,
    )
    assert not drawn.folds


def test_clocks_that_disagree_are_shown_and_no_band_is_negative() -> None:
    """A wait of minus four seconds helps nobody, and a hidden skew makes all other times of the job wrong."""
    drawn = timeline(
        job_event("queued", 10, createdAt=at(10)),
        job_event("active", 10.5, startedAt=at(6)),
        job_event("completed", 12, startedAt=at(6), completedAt=at(12)),
    )
    assert [(skew.first, skew.second, skew.milliseconds) for skew in drawn.skews] == [("publication", "start", 4_000)]
    assert all(band.milliseconds >= 0 and band.width > 0 for lane in drawn.lanes for band in lane.bands)
    assert drawn.start == moment_of(at(6))
    late = timeline(  # the producer's clock is so far ahead that its event comes after the start
        job_event("queued", 10, createdAt=at(10)),
        job_event("active", 6, startedAt=at(6)),
        job_event("completed", 8, startedAt=at(6), completedAt=at(8)),
    )
    assert [(skew.first, skew.second, skew.milliseconds) for skew in late.skews] == [("publication", "start", 4_000)]


def test_of_many_runs_the_first_and_the_last_are_drawn() -> None:
    """A job with ten thousand attempts would take a page of a megabyte."""
    events = [job_event("active", n / 10, startedAt=at(n / 10), attempt=n) for n in range(1, 101)]
    drawn = timeline(*events)
    assert [lane.run.attempt for lane in drawn.lanes] == [1, *range(102 - MOST_LANES, 101)]
    assert drawn.hidden == 100 - MOST_LANES


def test_a_job_that_never_started_has_an_end() -> None:
    """A revoked job would have an empty timeline."""
    drawn = timeline(job_event("queued", 0, createdAt=at(0)), job_event("cancelled", 7, completedAt=at(7)))
    assert kinds(drawn) == [[("queued", 7)]]
    assert drawn.lanes[0].end == 100
    only = timeline(job_event("failed", 7))
    assert (kinds(only), only.milliseconds) == ([[]], 0)


def dated(event: dict[str, Any], timestamp: str) -> dict[str, Any]:
    return {**event, "timestamp": timestamp}


def test_waits_that_grow_leave_room_for_the_runs() -> None:
    """The runs of a job with a retry each day would be drawn outside of the plot, with a width below zero."""
    events = [
        dated(job_event("active", 0, startedAt="2026-01-01T00:00:00.000Z", attempt=1), "2026-01-01T00:00:00.000Z")
    ]
    for attempt in range(1, 10):
        start = moment_of("2026-01-01T00:00:00Z")
        assert start is not None
        begin, end = (timestamp_of(start + seconds * 1_000_000) for seconds in (60 * 2**attempt, 60 * 2**attempt + 1))
        events += [
            dated(job_event("active", 0, startedAt=begin, attempt=attempt), begin),
            dated(job_event("retrying", 0, startedAt=begin, attempt=attempt), end),
        ]
    drawn = timeline(*events, now=0)
    assert len(drawn.folds) > 1
    places = [place for lane in drawn.lanes for band in lane.bands for place in (band.x, band.x + band.width)]
    assert min(places) >= 0
    assert max(places) <= 100
    assert sum(fold.width for fold in drawn.folds) <= 60
    edges = [edge for fold in drawn.folds for edge in (fold.x, fold.x + fold.width)]
    assert edges == sorted(edges)


def test_a_clock_that_is_wrong_by_decades_has_an_axis_of_few_marks() -> None:
    """A worker whose clock began in 1970 would make a page of megabytes."""
    start = "1970-01-01T00:00:00.000Z"
    drawn = timeline(job_event("completed", 0, createdAt=start, startedAt=start, completedAt=at(0)))
    assert 2 <= len(drawn.ticks) <= 6


def test_of_many_clocks_that_disagree_a_few_are_named() -> None:
    """The page of a job with hundreds of attempts would be hundreds of notices."""
    events = []
    for attempt in range(1, 21):
        second = 10 * attempt
        events.append(job_event("queued", second + 5, createdAt=at(second + 5), attempt=attempt))
        events.append(job_event("active", second + 6, startedAt=at(second), attempt=attempt))
        events.append(job_event("retrying", second + 7, startedAt=at(second), attempt=attempt))
    drawn = timeline(*events)
    assert len(drawn.skews) == MOST_SKEWS
    assert drawn.hidden_skews > 0
