"""Firings of cron: which run is made when, and what is counted of those that are not."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import update

from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.engine import firings
from sluice_agent.jobs.engine.moves import begin_due
from sluice_agent.jobs.store.schema import job as job_table
from sluice_agent.server.timestamps import to_datetime, to_moment
from tests.support.job_attempts import FAILURE, Attempts


def at(text: str) -> datetime:
    """Return a time of the day on which tests begin, at noon."""
    hours, minutes, *seconds = map(float, text.split(":"))
    midnight = datetime(2026, 2, 27, tzinfo=timezone.utc)
    return midnight + timedelta(hours=hours, minutes=minutes, seconds=sum(seconds))


def times(attempts: Attempts, job: Job) -> list[str]:
    """Return the minutes of the runs that cron has made of a job."""
    return [to_datetime(row.fire_at).strftime("%H:%M") for row in attempts.runs(job) if row.fire_at is not None]


def counts(attempts: Attempts, job: Job) -> tuple[int, int]:
    """Return how many firings were missed, and how many were skipped."""
    schedule = attempts.schedule(job)
    return schedule.missed_count, schedule.skipped_count


def test_a_firing_makes_a_run_which_says_so(attempts: Attempts) -> None:
    """Nobody could tell the run of the schedule from one that was triggered, nor for which day it reports."""
    job = attempts.job(
        cron="30 12 * * *", tags={"team": "shop"}, default_run_metadata={"region": "eu"}, cron_payload={"full": True}
    )
    attempts.now = at("12:29:59")
    assert attempts.fire() == 0
    attempts.now = at("12:30:00.4")
    assert attempts.fire() == 1
    assert attempts.fire() == 0
    (row,) = attempts.runs(job)
    assert (row.status, row.triggered_by, row.created_by, row.priority) == ("queued", "cron", "system:cron", 0)
    assert (row.payload, row.tags, row.metadata) == ('{"full":true}', '{"team":"shop"}', '{"region":"eu"}')
    assert row.fire_at == to_moment(at("12:30"))
    schedule = attempts.schedule(job)
    assert (schedule.last_fire_at, schedule.last_run_id, schedule.last_run_status) == (row.fire_at, row.id, "queued")
    assert schedule.job.next_fire_at == to_moment(at("12:30") + timedelta(days=1))
    assert counts(attempts, job) == (0, 0)


def test_a_job_of_nine_fires_at_nine_of_its_zone(attempts: Attempts) -> None:
    """A report of the morning would come in the night."""
    job = attempts.job(cron="0 9 * * *", timezone="America/New_York")
    attempts.now = at("14:00:01")
    attempts.fire()
    assert times(attempts, job) == ["14:00"]


@pytest.mark.parametrize(
    ("cron", "restart", "made", "missed"),
    [
        ("0 13 * * *", "13:00:50", ["13:00"], 0),  # late, but in time
        ("0 13 * * *", "13:59", ["13:00"], 0),
        ("0 13 * * *", "14:01", [], 1),
        ("*/10 * * * *", "13:05", ["13:00"], 5),
        ("*/10 * * * *", "13:09:59", ["13:00"], 5),
        ("0 13,14 * * *", "14:30", ["14:00"], 1),
        ("* * * * *", "12:03:30", ["12:03"], 2),
    ],
)
def test_a_server_that_was_stopped_over_firings_catches_the_latest_up(
    attempts: Attempts, cron: str, restart: str, made: list[str], missed: int
) -> None:
    """A nightly report would be lost with a restart of the server; or, after a weekend, each missed one would run."""
    job = attempts.job(cron=cron)
    attempts.store.close()
    again = Attempts(attempts.database, at(restart))
    again.fire()
    assert times(again, job) == made
    assert counts(again, job) == (missed, 0)
    next_fire_at = again.read_job(job.id).next_fire_at
    assert next_fire_at is not None
    assert next_fire_at > again.store.moment
    again.store.close()


@pytest.mark.parametrize(
    ("grace", "time", "made"), [(7200, "14:00", ["13:00"]), (1800, "14:00", []), (1, "13:00:50", ["13:00"])]
)
def test_the_grace_is_a_setting(attempts: Attempts, grace: int, time: str, made: list[str]) -> None:
    """A job that must not run late, or that must run however late, could not be scheduled; or a busy server would miss
    firings."""
    job = attempts.job(cron="0 13 * * *", cron_grace_secs=grace)
    attempts.now = at(time)
    attempts.fire()
    assert times(attempts, job) == made
    assert counts(attempts, job) == (1 - len(made), 0)


def test_all_missed_firings_of_months_are_counted_in_steps(attempts: Attempts) -> None:
    """After a long stop the engine would be busy with one job, or the count would be wrong."""
    job = attempts.job(cron="* * * * *", cron_grace_secs=30 * 86_400)
    attempts.now = at("12:00:30") + timedelta(days=20)
    rounds = [attempts.fire() for _ in range(4)]
    assert rounds == [1, 1, 1, 0]
    assert times(attempts, job) == ["12:00"]
    assert counts(attempts, job) == (20 * 1440 - 1, 0)


def test_no_two_servers_make_one_firing(attempts: Attempts) -> None:
    """A job would run twice in a night in which the leader changes, or a clock goes back."""
    job = attempts.job(cron="30 12 * * *")
    attempts.now = at("12:30:01")
    attempts.fire()
    with attempts.store.writing() as writer:  # as if this server had read the job before the other one's commit
        writer.execute(update(job_table).values(next_fire_at=to_moment(at("12:30"))))
    assert attempts.fire() == 1
    assert times(attempts, job) == ["12:30"]
    schedule = attempts.schedule(job)
    assert schedule.last_run_id == attempts.runs(job)[0].id
    assert schedule.job.next_fire_at == to_moment(at("12:30") + timedelta(days=1))
    attempts.trigger(job)
    attempts.trigger(job)
    assert len(attempts.runs(job)) == 3, "runs that are triggered have no minute"


@pytest.mark.parametrize(
    ("policy", "statuses", "skipped"),
    [
        ("", ["queued", "queued"], 0),
        ("allow", ["queued", "queued"], 0),
        ("skip", ["queued"], 1),
        ("cancel_running", ["canceled", "queued"], 0),
    ],
)
def test_what_overlaps_is_allowed_skipped_or_cancels(
    attempts: Attempts, policy: str, statuses: list[str], skipped: int
) -> None:
    """A job that takes longer than its period would pile up, or never come to its end."""
    job = attempts.job(cron="0,10 * * * *", cron_overlap_policy=policy)
    for minute in ("12:10:01", "13:00:01"):
        attempts.now = at(minute)
        attempts.fire()
    assert [row.status for row in attempts.runs(job)] == statuses
    schedule = attempts.schedule(job)
    assert (schedule.missed_count, schedule.skipped_count) == (0, skipped)
    assert schedule.last_skipped_at == (to_moment(at("13:00")) if skipped else None)


@pytest.mark.parametrize("state", ["executing", "retrying"])
def test_a_run_overlaps_until_its_last_attempt_has_ended(attempts: Attempts, state: str) -> None:
    """The next run would begin beside the retry of the one before."""
    job = attempts.job(cron="0 * * * *", cron_overlap_policy="skip", max_attempts=2)
    attempts.trigger(job)  # is none of cron's
    attempts.now = at("13:00:01")
    attempts.fire()
    run_id = attempts.runs(job)[-1].id
    execution = attempts.begin(run_id)
    if state == "retrying":
        attempts.finish(run_id, execution, **FAILURE)
    attempts.now = at("14:00:01")
    attempts.fire()
    assert times(attempts, job) == ["13:00"]
    if state == "retrying":
        execution = attempts.begin(run_id, attempt=2)
    attempts.finish(run_id, execution, attempt=2 if state == "retrying" else 1)
    attempts.now = at("15:00:01")
    attempts.fire()
    assert times(attempts, job) == ["13:00", "15:00"]


def test_a_used_up_rate_limit_skips_a_firing(attempts: Attempts) -> None:
    """A job that may run once an hour would run twice, and nobody would see why a firing is missing."""
    job = attempts.job(cron="30 * * * *", rate_limit_max=1, rate_limit_window_secs=3600)
    attempts.trigger(job)
    for time in ("12:30:01", "13:30:01"):
        attempts.now = at(time)
        attempts.fire()
    assert times(attempts, job) == ["13:30"]
    assert counts(attempts, job) == (0, 1)


def test_a_change_of_the_schedule_holds_at_once(attempts: Attempts) -> None:
    """A job would fire by the schedule that its owner has just corrected, or not at all."""
    job = attempts.job(cron="0 13 * * *")
    attempts.update(job, cron="0 15 * * *")
    attempts.now = at("13:00:01")
    assert attempts.fire() == 0
    attempts.update(job, cron="5 13 * * *")
    attempts.now = at("13:05:01")
    attempts.fire()
    attempts.switch(job, enabled=False)
    attempts.now = at("13:05:01") + timedelta(days=1)
    assert attempts.fire() == 0
    attempts.switch(job, enabled=True)
    attempts.now += timedelta(days=1)
    attempts.fire()
    attempts.update(job, cron="")
    attempts.now += timedelta(days=1)
    assert attempts.fire() == 0
    assert times(attempts, job) == ["13:05", "13:05"]


@pytest.mark.parametrize("change", ["update", "switch"])
def test_a_firing_that_a_change_drops_is_counted(attempts: Attempts, change: str) -> None:
    """A firing whose time came while no server ran would vanish if the job is changed before it is made."""
    job = attempts.job(cron="0 13 * * *")
    attempts.now = at("13:00:01")
    if change == "update":
        attempts.update(job, cron="0 15 * * *")
    else:
        attempts.switch(job, enabled=False)
        attempts.switch(job, enabled=True)
    attempts.fire()
    assert times(attempts, job) == []
    assert counts(attempts, job) == (1, 0)


def test_another_setting_leaves_the_next_firing_alone(attempts: Attempts) -> None:
    """Who renames a job at its minute would prevent its run."""
    job = attempts.job(cron="0 13 * * *")
    attempts.now = at("13:00:01")
    attempts.update(job, name="Other")
    attempts.fire()
    assert times(attempts, job) == ["13:00"]


def test_firings_of_a_paused_job_are_missed_and_the_last_is_caught_up(attempts: Attempts) -> None:
    """A pause of minutes would cost the nightly report, or one of days start a run for each hour."""
    job = attempts.job(cron="0 * * * *")
    attempts.pause(job)
    for time in ("13:00:01", "14:00:01"):
        attempts.now = at(time)
        attempts.fire()
    assert (times(attempts, job), counts(attempts, job)) == ([], (2, 0))
    attempts.now = at("14:20")
    attempts.resume(job)
    attempts.fire()
    assert (times(attempts, job), counts(attempts, job)) == (["14:00"], (1, 0))
    attempts.pause(job)
    attempts.now = at("14:30")
    attempts.resume(job)
    attempts.fire()
    assert times(attempts, job) == ["14:00"], "this pause has missed none"


def test_a_firing_that_is_caught_up_is_no_longer_shown_as_missed(attempts: Attempts) -> None:
    """A page would warn of a missed firing whose run is there."""
    job = attempts.job(cron="0 * * * *")
    attempts.pause(job)
    attempts.now = at("13:00:01")
    attempts.fire()
    assert attempts.schedule(job).last_missed_at == to_moment(at("13:00"))
    attempts.resume(job)
    attempts.fire()
    schedule = attempts.schedule(job)
    assert (times(attempts, job), schedule.missed_count, schedule.last_missed_at) == (["13:00"], 0, None)


@pytest.mark.parametrize("is_busy", [False, True])
def test_the_last_missed_firing_is_one_that_was_missed(attempts: Attempts, is_busy: bool) -> None:
    """A page would warn of the firing that was caught up, and say nothing of the one that was missed before it."""
    job = attempts.job(cron="0 * * * *", cron_grace_secs=1200)
    attempts.now = at("13:30")
    attempts.fire()
    assert attempts.schedule(job).last_missed_at == to_moment(at("13:00")), "an outage before the pause"
    attempts.pause(job)

    def miss(*times: str) -> None:
        for time in times[-1:] if is_busy else times:  # a server that is busy looks at several of them at once
            attempts.now = at(f"{time}:01")
            attempts.fire()

    def resume(time: str) -> tuple[int, int | None]:
        attempts.now = at(time)
        attempts.resume(job)
        attempts.fire()
        schedule = attempts.schedule(job)
        return schedule.missed_count, schedule.last_missed_at

    miss("14:00")
    assert resume("14:10") == (1, to_moment(at("13:00")))
    attempts.pause(job)
    miss("15:00", "16:00", "17:00")
    assert resume("17:10") == (3, to_moment(at("16:00")))
    attempts.pause(job)
    miss("18:00", "19:00")
    assert resume("19:30") == (5, to_moment(at("19:00"))), "too late to be caught up"
    assert times(attempts, job) == ["14:00", "17:00"]


def test_a_schedule_that_was_changed_in_a_pause_is_not_caught_up_by_its_old_firing(attempts: Attempts) -> None:
    """A job would run at the time that its owner has corrected during the pause."""
    job = attempts.job(cron="0 * * * *")
    attempts.pause(job)
    attempts.now = at("13:00:01")
    attempts.fire()
    attempts.update(job, cron="30 * * * *")
    attempts.now = at("13:10")
    attempts.resume(job)
    attempts.fire()
    assert (times(attempts, job), counts(attempts, job)) == ([], (1, 0))


def test_a_firing_waits_for_its_window_and_for_what_the_job_depends_on(attempts: Attempts) -> None:
    """A scheduled run would start in the night that its window excludes, or before the run that it needs."""
    first = attempts.job()
    job = attempts.job(cron="0 13 * * *", execution_window_cron="* 14 * * *")
    attempts.depend(job, first)
    attempts.now = at("13:00:01")
    attempts.fire()
    (row,) = attempts.runs(job)
    assert (row.status, row.scheduled_at) == ("delayed", to_moment(at("14:00")))
    attempts.now = at("14:00:01")
    with attempts.store.writing() as writer:
        begin_due(writer, attempts.store.moment)
    assert attempts.row(row.id).status == "waiting"
    other = attempts.trigger(first)
    attempts.finish(other, attempts.begin(other))
    assert attempts.row(row.id).status == "queued"


def test_a_schedule_that_fails_stops_no_other(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    """One job whose zone the system has lost would end all schedules."""
    broken, sound = attempts.job(cron="0 13 * * *"), attempts.job(cron="0 13 * * *")
    make = firings.make_run

    def fail(*arguments: object) -> object:
        if arguments[1] == attempts.read_job(broken.id):
            raise KeyError("the zone is gone")
        return make(*arguments)  # type: ignore[arg-type]

    attempts.now = at("13:00:01")
    with monkeypatch.context() as patched:
        patched.setattr(firings, "make_run", fail)
        assert attempts.fire() == 1
    assert (times(attempts, broken), times(attempts, sound)) == ([], ["13:00"])
    attempts.fire()
    assert times(attempts, broken) == ["13:00"]
