"""The record as a function of a job's events: every case in which observers, clocks or networks disagree."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sluice_agent.server.record.ids import job_id
from tests.support.records import record_of_events
from tests.unit.server.events import CONNECTION, at, job_event


def derived(*events: dict[str, Any]) -> dict[str, Any]:
    return record_of_events(events)


def history(*events: dict[str, Any]) -> list[str]:
    return [entry["state"] for entry in derived(*events)["stateHistory"]]


LIFE_WITH_EVERYTHING = [
    job_event("queued", 0, createdAt=at(0), attempt=1, extensions={"rootId": "root", "parentId": "parent"}),
    job_event("active", 1, startedAt=at(1), attempt=1, workerId="celery@a"),
    job_event("active", 1.5, attempt=1, progress=0.25),
    job_event("retrying", 2, attempt=1, error="ValueError: no"),
    job_event("active", 3, startedAt=at(3), attempt=2, workerId="celery@b"),
    job_event("active", 3.2, attempt=2, progress=0.5),
    job_event("active", 3.1, attempt=2, progress=0.1),
    job_event("active", 4, startedAt=at(4), attempt=2, extensions={"redelivered": True}, workerId="celery@c"),
    job_event("active", 4.5, attempt=2, progress=0.75, startedAt=at(4), extensions={"redelivered": True}),
    job_event("completed", 5, attempt=2, startedAt=at(4), completedAt=at(5)),
    job_event("unknown", 6, attempt=2),
    job_event("completed", 5, attempt=2, startedAt=at(4), completedAt=at(5)),
]


@pytest.mark.parametrize("seed", range(50))
def test_order_of_arrival_is_not_in_the_record(seed: int) -> None:
    """Two users whose networks shuffle the same events differently would otherwise see two different jobs."""
    shuffled = random.Random(seed).sample(LIFE_WITH_EVERYTHING, len(LIFE_WITH_EVERYTHING))
    record = derived(*shuffled)
    assert record == derived(*LIFE_WITH_EVERYTHING)
    assert [entry["state"] for entry in record["stateHistory"]] == [
        "queued", "active", "retrying", "active", "active", "completed",
    ]  # fmt: skip
    assert (record["attempt"], record["progress"], record["durationMs"]) == (2, 0.75, 1000)
    assert (record["rootId"], record["parentId"], record["workerId"]) == ("root", "parent", "celery@c")
    assert record["error"] is None


@pytest.mark.parametrize("seed", range(20))
def test_events_of_one_instant_follow_the_natural_order(seed: int) -> None:
    """A task that takes less than a clock's tick would otherwise be shown as active for ever."""
    events = [job_event(state, 1) for state in ("queued", "active", "completed")]
    random.Random(seed).shuffle(events)
    assert history(*events) == ["queued", "active", "completed"]


def test_fractions_of_different_length_are_compared_as_numbers() -> None:
    """A producer that writes no fraction would otherwise overtake a worker that writes milliseconds."""
    first = job_event("queued", 0) | {"timestamp": "2026-02-27T10:00:00Z"}
    second = job_event("active", 0) | {"timestamp": "2026-02-27T10:00:00.000001Z"}
    assert history(second, first) == ["queued", "active"]
    same = [job_event(state, 0) for state in ("queued", "active")]
    same[0]["timestamp"], same[1]["timestamp"] = "2026-02-27T10:00:00.500Z", "2026-02-27T10:00:00.5Z"
    assert history(*reversed(same)) == ["queued", "active"]


@pytest.mark.parametrize("terminal", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize("late", ["queued", "scheduled", "active", "unknown"])
def test_nothing_of_the_same_run_undoes_a_terminal_state(terminal: str, late: str) -> None:
    """A finished job would otherwise look as if it ran, because some host's clock is ahead."""
    events = job_event("active", 1, attempt=1), job_event(terminal, 2, attempt=1), job_event(late, 3, attempt=1)
    assert history(*events) == ["active", terminal]


def test_progress_reported_after_the_end_is_not_a_new_run() -> None:
    """The last report of a chatty task would otherwise reopen it."""
    start: dict[str, Any] = {"startedAt": at(1), "attempt": 1, "extensions": {"redelivered": True}}
    events = (
        job_event("active", 1, **start),
        job_event("completed", 2, attempt=1),
        job_event("active", 3, progress=0.9, **start),
        job_event("active", 3, progress=0.9, attempt=1, extensions={"redelivered": True}),
    )
    assert history(*events) == ["active", "completed"]


@pytest.mark.parametrize("first", ["completed", "failed", "cancelled", "retrying", "unknown"])
def test_a_redelivery_is_a_new_run(first: str) -> None:
    """A job that the broker hands out again would otherwise stay finished while it runs."""
    again = job_event("active", 3, attempt=1, startedAt=at(3), extensions={"redelivered": True})
    events = job_event("active", 1, attempt=1, startedAt=at(1)), job_event(first, 2, attempt=1, error="E: 1"), again
    record = derived(*events)
    assert (record["state"], record["startedAt"], record["error"]) == ("active", at(3), None)
    assert (record["completedAt"], record["durationMs"]) == (None, None)


def test_an_execution_that_started_after_the_end_is_a_new_run() -> None:
    """Users who give their tasks fixed ids would otherwise never see the second execution run."""
    events = (
        job_event("completed", 2, startedAt=at(1), completedAt=at(2)),
        job_event("active", 9, startedAt=at(9)),
    )
    assert history(*events) == ["completed", "active"]
    assert derived(*events, job_event("failed", 11, startedAt=at(9)))["durationMs"] == 2000


@pytest.mark.parametrize("before", ["failed", "retrying", "queued", "completed"])
@pytest.mark.parametrize("state", ["queued", "active"])
def test_a_new_attempt_follows_any_state(before: str, state: str) -> None:
    """A retry would otherwise be invisible."""
    record = derived(job_event(before, 1, attempt=1), job_event(state, 2, attempt=2))
    assert (record["state"], record["attempt"], record["previousState"]) == (state, 2, before)


def test_retries_without_attempt_numbers_are_seen() -> None:
    """The jobs of a client that does not count attempts would otherwise stay at retrying."""
    states = ["queued", "active", "retrying", "active", "completed"]
    assert history(*(job_event(state, second) for second, state in enumerate(states))) == states


def test_a_later_verdict_corrects_a_terminal_state() -> None:
    """A job that was reported lost, and whose true end is reported later, would otherwise keep the wrong one."""
    failed = job_event("failed", 2, attempt=1, error="WorkerLostError: gone")
    record = derived(job_event("completed", 3, attempt=1), failed)
    assert (record["state"], record["previousState"], record["error"]) == ("completed", "failed", None)


def test_the_next_attempt_may_be_published_before_the_retry_is_reported() -> None:
    """Celery publishes first and reports later: the retry's error would otherwise vanish from the history."""
    events = (
        job_event("active", 1, attempt=1),
        job_event("queued", 2, attempt=2),
        job_event("retrying", 2.1, attempt=1),
        job_event("active", 3, attempt=2),
        job_event("completed", 4, attempt=2),
    )
    assert history(*events) == ["active", "queued", "retrying", "active", "completed"]


def test_a_late_event_of_an_earlier_attempt_changes_nothing() -> None:
    """A slow observer of the first attempt would otherwise end the second."""
    assert derived(job_event("active", 2, attempt=2), job_event("failed", 3, attempt=1))["state"] == "active"


def test_a_rejected_job_is_queued_again() -> None:
    """A job that went back to its queue would otherwise look as if it still ran."""
    requeued = job_event("queued", 2, attempt=1, extensions={"requeued": True})
    assert history(job_event("active", 1, attempt=1), requeued) == ["active", "queued"]


def test_a_replacement_counts_its_attempts_anew() -> None:
    """A job that was retried and then replaced would otherwise stay at its last retry for ever."""
    events = (
        job_event("queued", 0, attempt=1),
        job_event("active", 1, attempt=1),
        job_event("retrying", 2, attempt=1),
        job_event("active", 3, attempt=2),
        job_event("queued", 4, attempt=1, extensions={"requeued": True}),
        job_event("active", 5, attempt=1, startedAt=at(5)),
        job_event("completed", 6, attempt=1, startedAt=at(5)),
    )
    assert history(*events) == ["queued", "active", "retrying", "active", "queued", "active", "completed"]
    assert derived(*events)["attempt"] == 1


def test_a_producer_that_reports_after_the_worker_still_dates_the_dispatch() -> None:
    """A quick worker's jobs would otherwise lack the time at which they were queued."""
    queued = job_event("queued", 1.01, createdAt=at(0.9), attempt=1)
    record = derived(job_event("active", 1, attempt=1), job_event("completed", 2, attempt=1), queued)
    assert record["stateHistory"][0] == {"state": "queued", "timestamp": at(0.9)}
    assert record["state"] == "completed"


@pytest.mark.parametrize("dispatched", [1.2, 1.7, 5])
@pytest.mark.parametrize("end", ["completed", "retrying"])
def test_a_producer_whose_clock_is_ahead_still_dispatched_the_job(dispatched: float, end: str) -> None:
    """The dispatch would otherwise vanish from the job's history, or seem to follow its retry."""
    queued = job_event("queued", dispatched, createdAt=at(dispatched), attempt=1)
    events = [job_event("active", 1, attempt=1, startedAt=at(1)), job_event(end, 1.5, attempt=1), queued]
    if end == "retrying":
        events += [job_event("active", 6, attempt=2), job_event("completed", 7, attempt=2)]
    record = derived(*events)
    assert record["stateHistory"][0] == {"state": "queued", "timestamp": at(1)}
    assert history(*events) == ["queued", "active", end, *["active", "completed"] * (end == "retrying")]


def test_a_worker_that_was_lost_and_whose_clock_is_ahead() -> None:
    """A job that was handed to another worker, and ended there, would otherwise seem to run for ever."""
    again: dict[str, Any] = {"startedAt": at(2), "createdAt": at(0), "extensions": {"redelivered": True}}
    events = (
        job_event("queued", 0, createdAt=at(0)),
        job_event("active", 2, **again),
        job_event("completed", 3, **again),
        job_event("active", 6, startedAt=at(6), createdAt=at(0)),
    )
    assert history(*events) == ["queued", "active", "completed"]
    assert history(*events[:3], job_event("active", 6, startedAt=at(6), createdAt=at(5)))[-1] == "active"


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_a_run_is_not_begun_anew_by_its_own_start(end: str) -> None:
    """A worker whose clock is set back would otherwise have jobs that run for ever."""
    events = job_event("active", 9, startedAt=at(9), attempt=1), job_event(end, 2, startedAt=at(9), attempt=1)
    assert history(*events) == ["active", end]
    repeated = job_event("active", 9.5, startedAt=at(9), attempt=1)
    assert history(*events, repeated)[-1] == end


def test_progress_adds_no_history() -> None:
    """A task with a progress bar would otherwise bury its transitions under a thousand entries."""
    reports = [job_event("active", 1 + n / 10, progress=n / 10, attempt=1) for n in range(1, 10)]
    record = derived(job_event("active", 1, attempt=1), *reversed(reports))
    assert ([entry["state"] for entry in record["stateHistory"]], record["progress"]) == (["active"], 0.9)


def test_times_that_no_event_names_come_from_transitions() -> None:
    """Durations, and the place in lists, would otherwise be missing for clients that send states only."""
    record = derived(job_event("queued", 0), job_event("active", 1), job_event("completed", 3.5))
    assert (record["startedAt"], record["completedAt"], record["durationMs"]) == (at(1), at(3.5), 2500)
    assert record["createdAt"] == at(0)


def test_the_first_known_moment_is_the_creation_of_a_job_whose_dispatch_is_unknown() -> None:
    """Jobs of a vendor's SDK, which runs in the worker only, would otherwise have no time in lists."""
    ended = job_event("completed", 3, startedAt=at(1), completedAt=at(3))
    assert derived(ended)["createdAt"] == at(1)
    assert derived(job_event("active", 2, startedAt=at(2)), ended)["createdAt"] == at(1)
    assert derived(job_event("queued", 0.5, createdAt=at(0.25)), ended)["createdAt"] == at(0.25)
    assert derived(job_event("queued", 5, createdAt=at(5)), ended)["createdAt"] == at(5)


def test_timestamps_have_milliseconds() -> None:
    """A client that sorts them as texts would otherwise have .5 after .123456."""
    precise = {"timestamp": "2026-02-27T10:00:01.1239999Z"}
    whole = {"timestamp": "2026-02-27T10:00:00Z"}
    record = derived(job_event("queued", 0) | whole, job_event("active", 1, startedAt=precise["timestamp"]) | precise)
    assert record["createdAt"] == at(0)
    assert (record["startedAt"], record["stateChangedAt"]) == (at(1.123), at(1.123))
    assert [entry["timestamp"] for entry in record["stateHistory"]] == [at(0), at(1.123)]


def test_a_null_of_the_sdk_is_no_value() -> None:
    """An ETA that the producer named would otherwise be removed by its worker, which sends null for none."""
    scheduled = job_event("scheduled", 0, extensions={"eta": at(60), "expires": None})
    record = derived(scheduled, job_event("active", 61, extensions={"eta": None, "priority": None}))
    assert record["scheduledFor"] == at(60)
    assert record["extensions"] == {"eta": at(60), "priority": None}


def test_what_belongs_to_one_publication_stays_together() -> None:
    """The arguments of a replacement, which were not captured whole, would be marked as whole by those before."""
    first = {"args": [1], "kwargs": {}, "argsWhole": True, "message": {"serializer": "json"}, "rootId": "root"}
    events = [
        job_event("queued", 0, extensions=first),
        job_event("active", 1, extensions={"priority": 1}),
        job_event("queued", 2, extensions={"args": ["…"], "kwargs": {}, "requeued": True}),
    ]
    assert derived(*events[:2])["extensions"] == {**first, "priority": 1}
    expected = {"args": ["…"], "kwargs": {}, "rootId": "root", "priority": 1, "requeued": True}
    assert derived(*events)["extensions"] == expected


def test_a_name_is_better_than_none() -> None:
    """A monitor that started in the middle of a job would otherwise remove the name that its producer reported."""
    queued, active = job_event("queued", 0, name="app.first"), job_event("active", 1, name="app.second")
    ended = job_event("completed", 2, name="unknown")
    assert derived(queued, ended)["name"] == "app.first"
    assert derived(queued, active, ended)["name"] == "app.second"
    assert derived(ended)["name"] == "unknown"


@pytest.mark.parametrize(
    ("eta", "shown"),
    [
        (at(60), at(60)),
        ("2026-02-27T12:00:00+02:00", "2026-02-27T10:00:00.000Z"),
        ("2026-02-27T10:00:00.5", "2026-02-27T10:00:00.500Z"),
        ("tomorrow", None),
        (5, None),
    ],
)
def test_the_eta_is_shown_in_utc(eta: object, shown: str | None) -> None:
    """A job scheduled in a local time zone would otherwise be shown hours off."""
    assert derived(job_event("scheduled", 0, extensions={"eta": eta}))["scheduledFor"] == shown


def test_the_id_depends_on_connection_and_external_id_alone() -> None:
    """Bookmarks of jobs would otherwise break when the file is made anew."""
    assert derived(job_event("queued", 0))["id"] == job_id(CONNECTION, "job-1")
    assert job_id(CONNECTION, "job-1") == "37b70ed7-f044-5bd0-b529-a62ac2213e41"
    assert job_id(CONNECTION.upper(), "job-1") == job_id(CONNECTION, "job-1")


def test_a_job_that_is_published_again_after_its_end() -> None:
    """`nightly-report` waits again each night, and its page must not show the end of the last one until it runs."""
    night = [
        job_event("queued", 0, createdAt=at(0)),
        job_event("active", 1, startedAt=at(1)),
        job_event("completed", 2, startedAt=at(1), completedAt=at(2)),
    ]
    assert history(*night, job_event("queued", 3, createdAt=at(3))) == ["queued", "active", "completed", "queued"]
    assert derived(*night, job_event("queued", 3, createdAt=at(3)))["state"] == "queued"


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_an_end_of_an_unknown_attempt(end: str) -> None:
    """A sidecar that is killed while a job is retried leaves the end to another that does not know its attempt."""
    attempts = [
        job_event("active", 1, attempt=1, startedAt=at(1)),
        job_event("retrying", 2, attempt=1, startedAt=at(1)),
        job_event("active", 3, attempt=2, startedAt=at(3)),
    ]
    events = (*attempts, job_event(end, 5, startedAt=at(3)))
    assert history(*events) == ["active", "retrying", "active", end]
    assert (derived(*events)["attempt"], derived(*events)["startedAt"]) == (2, at(3))
    unstarted = (*attempts[:2], job_event(end, 5, startedAt=at(3)))
    assert history(*unstarted) == ["active", "retrying", end]
    assert (derived(*unstarted)["attempt"], derived(*unstarted)["startedAt"]) == (2, at(3))


def test_a_start_of_an_unknown_attempt() -> None:
    """A start after a retry belongs to the next attempt; a late report of progress to the attempt before."""
    retried = job_event("active", 1, attempt=1), job_event("retrying", 2, attempt=1)
    assert derived(*retried, job_event("active", 3))["attempt"] == 2
    assert derived(*retried, job_event("active", 3, progress=0.5))["state"] == "retrying"
