"""What time does to runs, and which claims go back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection

from sluice_agent.jobs.engine import moves, stale
from tests.support.job_attempts import SECOND, Attempts


def do(attempts: Attempts, work: Callable[[Connection, int], int]) -> int:
    with attempts.store.writing() as writer:
        return work(writer, attempts.store.moment)


def scheduled_in(attempts: Attempts, seconds: float) -> str:
    return (attempts.now + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_run_due_in_an_hour_is_not_expired_by_then(attempts: Attempts) -> None:
    """A run for later would end before its time, unless it may start within seconds."""
    run_id = attempts.trigger(attempts.job(), scheduled_at=scheduled_in(attempts, 3600), ttl_secs=60)
    attempts.pass_(3599)
    assert do(attempts, moves.begin_due) == do(attempts, moves.expire) == 0
    attempts.pass_(2)
    assert do(attempts, moves.begin_due) == 1
    assert do(attempts, moves.expire) == 0
    assert attempts.row(run_id).status == "queued"
    attempts.pass_(60)
    assert do(attempts, moves.expire) == 1
    assert attempts.row(run_id).status == "expired"


def test_a_run_that_has_started_does_not_expire(attempts: Attempts) -> None:
    """A job with a short time to start would lose its retries."""
    run_id = attempts.trigger(attempts.job(), ttl_secs=10)
    attempts.begin(run_id)
    attempts.lose(run_id)
    attempts.pass_(60)
    assert do(attempts, moves.expire) == 0
    assert attempts.row(run_id).status == "queued"


def test_a_due_run_waits_for_what_it_depends_on(attempts: Attempts) -> None:
    """A run for later would start before the run that it needs."""
    first, second = attempts.job(), attempts.job()
    attempts.depend(second, first)
    run_id = attempts.trigger(second, scheduled_at=scheduled_in(attempts, 10))
    attempts.pass_(11)
    do(attempts, moves.begin_due)
    assert attempts.row(run_id).status == "waiting"
    other = attempts.trigger(first)
    attempts.finish(other, attempts.begin(other))
    assert attempts.row(run_id).status == "queued"


def test_an_attempt_without_a_sign_of_life_is_lost(attempts: Attempts) -> None:
    """A run whose worker was killed would be executing for ever."""
    job = attempts.job(max_attempts=2)
    run_id = attempts.trigger(job)
    execution = attempts.begin(run_id)
    attempts.pass_(50)
    attempts.beat({execution: run_id})
    attempts.pass_(50)

    def lose(writer: Connection, now: int) -> int:
        return moves.lose(writer, now - 60 * SECOND, now, lambda: 0.5)

    assert do(attempts, lose) == 0
    attempts.pass_(11)
    assert do(attempts, lose) == 1
    row = attempts.row(run_id)
    assert (row.status, row.attempt, row.is_ready) == ("queued", 2, False)
    assert row.available_at == attempts.store.moment + SECOND
    attempts.pass_(2)
    do(attempts, moves.end_holds)
    attempts.begin(run_id, attempt=2)
    attempts.pass_(61)
    assert do(attempts, lose) == 1
    assert attempts.row(run_id).status == "crashed"


def test_an_outcome_that_can_not_be_reported_ends_its_run(attempts: Attempts) -> None:
    """A run would be executing for ever, as its worker is alive; or its request be sent again after an answer."""
    run_id, long = attempts.trigger(attempts.job(timeout_secs=60)), attempts.trigger(attempts.job(timeout_secs=61))
    executions = {attempts.begin(run_id): run_id, attempts.begin(long): long}

    def end_overdue(writer: Connection, now: int) -> int:
        return moves.end_overdue(writer, now - 3600 * SECOND, now)

    attempts.pass_(3659)
    assert do(attempts, end_overdue) == 0
    attempts.pass_(1)
    assert do(attempts, end_overdue) == 1
    assert (attempts.row(run_id).status, attempts.row(long).status) == ("system_failed", "executing")
    execution, _ = executions
    assert attempts.beat(executions) == [execution], "its worker gives it up"
    assert attempts.finish(run_id, execution) == "system_failed"
    (attempt,) = attempts.attempts(run_id)
    assert (attempt.status_code, attempt.error_class) == (200, "system"), "a late report adds to the attempt only"


def test_only_claims_without_a_message_go_back(attempts: Attempts) -> None:
    """The runs of a killed server would never be executed, or each message of a backlog be sent again and again."""
    job = attempts.job()
    published, unpublished = attempts.trigger(job), attempts.trigger(job)
    for run_id in (published, unpublished):
        attempts.claim(run_id)
    claimed_at = attempts.row(published).claimed_at
    do(attempts, lambda writer, now: stale.note_published(writer, [published], claimed_at, now) or 0)
    attempts.pass_(3600)
    assert do(attempts, stale.release_unpublished) == 1
    assert [attempts.row(run_id).status for run_id in (published, unpublished)] == ["dequeued", "queued"]
    assert attempts.row(unpublished).ticket_hash is not None, "its message may be on its way"
    assert do(attempts, stale.release_lost) == 1
    assert attempts.row(published).status == "queued"


@pytest.mark.parametrize("number", [1, 2])
def test_a_release_takes_back_only_its_own_claim(attempts: Attempts, number: int) -> None:
    """A run that a worker has finished, and that is claimed again, would be taken from the next worker."""
    run_id = attempts.trigger(attempts.job())
    attempts.claim(run_id)
    claimed_at = attempts.row(run_id).claimed_at + number - 1
    do(attempts, lambda writer, now: stale.release(writer, [run_id], claimed_at, now) or 0)
    assert attempts.row(run_id).status == ("queued" if number == 1 else "dequeued")
