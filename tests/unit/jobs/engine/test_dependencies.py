"""Dependencies hold on every way by which a run becomes one that can be claimed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from sluice_agent.jobs.definitions.dependencies import delete_dependency, dependencies_of
from sluice_agent.jobs.definitions.jobs import Change, Job, Lock, delete_job, find_job
from sluice_agent.jobs.engine import moves
from sluice_agent.jobs.runs import runs
from sluice_agent.jobs.runs.requests import TriggerItem
from sluice_agent.jobs.runs.trigger import trigger_all, want
from tests.support.job_attempts import Attempts


def triggered(attempts: Attempts, job: Job) -> str:
    return attempts.trigger(job)


def in_bulk(attempts: Attempts, job: Job) -> str:
    now = attempts.store.moment
    with attempts.store.writing() as writer:
        _, made = trigger_all(writer, job, [want(job, TriggerItem(), None, now)], Change("test", now))
    return str(made[0].row.id)


def fired(attempts: Attempts, job: Job) -> str:
    job = attempts.update(job, cron="* * * * *")
    attempts.pass_(60)
    attempts.fire()
    attempts.update(job, cron="")
    return str(attempts.runs(job)[-1].id)


def due(attempts: Attempts, job: Job) -> str:
    run_id = later(attempts, job)
    attempts.pass_(3600)
    with attempts.store.writing() as writer:
        assert moves.begin_due(writer, attempts.store.moment) == 1
    return run_id


def rescheduled(attempts: Attempts, job: Job) -> str:
    run_id = later(attempts, job)
    with attempts.store.writing() as writer:
        row = runs.find_run(writer, run_id, None, locks=True)
        runs.reschedule_run(writer, row, attempts.store.moment - 1, attempts.store.moment)
    return run_id


def postponed(attempts: Attempts, job: Job) -> str:
    """Make a run that came too late for its window, after what it needed had come: it looks again as it opens."""
    job = attempts.update(job, execution_window_cron="* 12 * * *")
    attempts.now = attempts.now.replace(hour=13, minute=0)
    run_id = attempts.trigger(job)
    assert attempts.row(run_id).status == "delayed"
    attempts.pass_(23 * 3600)
    with attempts.store.writing() as writer:
        assert moves.begin_due(writer, attempts.store.moment) == 1
    return run_id


def replayed(attempts: Attempts, job: Job) -> str:
    """Make a run that failed once what it needs had come, and replay it as a new one."""
    failed = dead_letter(attempts, job)
    with attempts.store.writing() as writer:
        live = find_job(writer, job.id, None, Lock.SHARED)
        row = runs.find_run(writer, failed, None, locks=True)
        return str(runs.replay_run(writer, live, row, Change("test", attempts.store.moment)).id)


def revived(attempts: Attempts, job: Job) -> str:
    failed = dead_letter(attempts, job)
    with attempts.store.writing() as writer:
        live = find_job(writer, job.id, None, Lock.SHARED)
        row = runs.find_run(writer, failed, None, locks=True)
        return str(runs.replay_dead_letter(writer, live, row, attempts.store.moment).id)


def later(attempts: Attempts, job: Job) -> str:
    at = (attempts.now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return attempts.trigger(job, scheduled_at=at)


def dead_letter(attempts: Attempts, job: Job) -> str:
    """Make a run that fails although it depends on nothing yet, and restore its dependencies."""
    with attempts.store.writing() as writer:
        needed = [find_job(writer, found.depends_on_job_id, None) for found in dependencies_of(writer, job.id)]
    forget(attempts, job)
    run_id = attempts.trigger(job)
    attempts.finish(run_id, attempts.begin(run_id), status_code=400, error="400: no", error_class="client")
    assert attempts.row(run_id).status == "dead_letter"
    for other in needed:
        attempts.depend(job, other)
    return run_id


def forget(attempts: Attempts, job: Job) -> None:
    """Delete all that a job depends on."""
    with attempts.store.writing() as writer:
        for found in dependencies_of(writer, job.id):
            delete_dependency(writer, job.id, found.id)


def complete(attempts: Attempts, job: Job) -> None:
    run_id = attempts.trigger(job)
    attempts.finish(run_id, attempts.begin(run_id))


WAYS: tuple[Callable[[Attempts, Job], str], ...] = (
    triggered,
    in_bulk,
    fired,
    due,
    rescheduled,
    postponed,
    replayed,
    revived,
)


@pytest.mark.parametrize("way", WAYS)
def test_a_run_waits_on_each_way_until_the_last_dependency_is_met(
    attempts: Attempts, way: Callable[[Attempts, Job], str]
) -> None:
    """A report would start before one of its two sources, if it was not triggered but scheduled, or replayed."""
    first, second, report = attempts.job(), attempts.job(), attempts.job()
    attempts.depend(report, first)
    attempts.depend(report, second)
    run_id = way(attempts, report)
    assert attempts.row(run_id).status == "waiting"
    complete(attempts, first)
    assert attempts.row(run_id).status == "waiting"
    complete(attempts, second)
    assert attempts.row(run_id).status == "queued"
    assert attempts.row(way(attempts, report)).status == "queued", "both have come"


@pytest.mark.parametrize("state", ["queued", "retrying"])
def test_a_run_that_may_start_is_not_held_again(attempts: Attempts, state: str) -> None:
    """A run would wait in the middle of its attempts, as another run of its source has failed meanwhile."""
    source, report = attempts.job(), attempts.job(max_attempts=2)
    attempts.depend(report, source)
    complete(attempts, source)
    run_id = attempts.trigger(report)
    if state == "retrying":
        attempts.finish(run_id, attempts.begin(run_id), status_code=500, error="500", error_class="server")
    failed = attempts.trigger(source)
    attempts.finish(failed, attempts.begin(failed), status_code=400, error="400", error_class="client")
    assert attempts.row(run_id).status == "queued"


def test_a_waiting_run_expires(attempts: Attempts) -> None:
    """A report of yesterday would start when its source comes at last."""
    source, report = attempts.job(), attempts.job(run_ttl_secs=60)
    attempts.depend(report, source)
    run_id = attempts.trigger(report)
    assert attempts.row(run_id).status == "waiting"
    attempts.pass_(61)
    with attempts.store.writing() as writer:
        assert moves.expire(writer, attempts.store.moment) == 1
    complete(attempts, source)
    assert attempts.row(run_id).status == "expired"


@pytest.mark.parametrize("change", ["dependency", "job"])
def test_a_run_whose_dependency_is_deleted_waits_no_longer(attempts: Attempts, change: str) -> None:
    """Who deletes a dependency by which runs wait would have to trigger them again."""
    source, report = attempts.job(), attempts.job()
    attempts.depend(report, source)
    run_id = attempts.trigger(report)
    if change == "dependency":
        forget(attempts, report)
    else:
        with attempts.store.writing() as writer:
            delete_job(writer, find_job(writer, source.id, None, Lock.EXCLUSIVE))
    with attempts.store.writing() as writer:
        moves.look_at_waiting(writer, "", attempts.store.moment)
    assert attempts.row(run_id).status == "queued"
