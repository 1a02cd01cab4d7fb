"""Which runs are claimed, and in which order."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from sluice_agent.jobs.engine.claim import JobCache, claim_runs
from sluice_agent.jobs.engine.moves import end_holds
from sluice_agent.jobs.runs.tickets import add_ticket, is_valid, new_ticket
from sluice_agent.jobs.store.schema import run
from tests.support.job_attempts import FAILURE, SECOND, Attempts


def claim(attempts: Attempts, places: int = 100) -> list[str]:
    """Claim runs until so many are under way, and return their ids."""
    with attempts.store.writing() as writer:
        claims = claim_runs(writer, JobCache(), places, attempts.store.moment, 300)
    for claimed in claims:
        row = attempts.row(claimed.run_id)
        assert row.status == "dequeued"
        assert is_valid(row.ticket_hash, claimed.ticket)
        assert row.claimed_until == attempts.store.moment + 300 * SECOND
    return [claimed.run_id for claimed in claims]


def trigger(attempts: Attempts, *items: tuple[object, dict[str, object]]) -> list[str]:
    runs = []
    for job, item in items:
        attempts.pass_(0.001)
        runs.append(attempts.trigger(job, **item))  # type: ignore[arg-type]
    return runs


def test_the_order_is_that_of_priorities_then_of_creation(attempts: Attempts) -> None:
    """An urgent run would wait behind a backlog, or an old one for ever."""
    first, second = attempts.job(), attempts.job()
    a, b, c, d = trigger(attempts, (first, {}), (second, {"priority": 5}), (second, {}), (first, {"priority": 5}))
    assert claim(attempts, 3) == [b, d, a]
    assert claim(attempts, 3) == []
    assert claim(attempts, 4) == [c]


def test_limits_hold_and_a_full_job_keeps_no_other_waiting(attempts: Attempts) -> None:
    """A job that may run once at a time would run twice, or its backlog stop all other jobs."""
    single, other = attempts.job(max_concurrency=1), attempts.job()
    backlog = trigger(attempts, *[(single, {"priority": 10})] * 300)
    (late,) = trigger(attempts, (other, {}))
    assert claim(attempts) == [backlog[0], late]
    assert claim(attempts) == []
    execution = attempts.name()
    assert attempts.start(backlog[0], _ticket_of(attempts, backlog[0]), execution) is not None
    assert claim(attempts) == []
    attempts.finish(backlog[0], execution)
    assert claim(attempts) == [backlog[1]]


def _ticket_of(attempts: Attempts, run_id: str) -> str:
    """Give a claimed run another ticket, and return it: the engine's own is in its message only."""
    ticket = new_ticket()
    with attempts.store.writing() as writer:
        writer.execute(update(run).where(run.c.id == run_id).values(ticket_hash=add_ticket(None, ticket)))
    return ticket


def test_a_limit_for_each_key_holds_and_a_full_key_keeps_no_other_waiting(attempts: Attempts) -> None:
    """One customer of many would get all places, or the others none."""
    job = attempts.job(max_concurrency=4, max_concurrency_per_key=1)
    keyed = trigger(attempts, *[(job, {"concurrency_key": "a"})] * 150, (job, {"concurrency_key": "b"}), (job, {}))
    assert claim(attempts) == [keyed[0], keyed[150], keyed[151]]
    assert claim(attempts) == []
    more = trigger(attempts, (job, {}), (job, {}))
    assert claim(attempts) == more[:1], "both limits hold together"


def test_runs_of_a_disabled_job_are_held(attempts: Attempts) -> None:
    """Who disables a job because it does harm would see its backlog executed."""
    job = attempts.job()
    runs = trigger(attempts, (job, {}), (job, {}))
    attempts.switch(job, enabled=False)
    assert claim(attempts) == []
    attempts.switch(job, enabled=True)
    assert claim(attempts) == runs


def test_runs_of_a_paused_job_keep_their_place_and_one_that_was_claimed_goes_back(attempts: Attempts) -> None:
    """Who pauses a job because its endpoint is down would see its backlog fail."""
    job = attempts.job()
    runs = trigger(attempts, (job, {}), (job, {}))
    ticket = attempts.claim(runs[0])
    attempts.pause(job)
    assert claim(attempts) == []
    assert attempts.start(runs[0], ticket, attempts.name()) is None
    assert attempts.row(runs[0]).status == "queued"
    attempts.resume(job)
    assert claim(attempts) == runs


def test_a_run_outside_the_window_is_postponed(attempts: Attempts) -> None:
    """A backlog of the office hours would go on at night."""
    job = attempts.job(execution_window_cron="* 9-17 * * *", timezone="UTC")  # it is 12:00
    (run_id,) = trigger(attempts, (job, {}))
    attempts.pass_(7 * 3600)
    assert claim(attempts) == []
    row = attempts.row(run_id)
    assert (row.status, row.scheduled_at, row.available_at) == ("delayed", row.scheduled_at, row.scheduled_at)
    assert (row.scheduled_at - attempts.store.moment) / SECOND == pytest.approx(14 * 3600, abs=1)


def test_an_open_circuit_lets_one_probe_through(attempts: Attempts) -> None:
    """An endpoint that is down would get the requests of its whole backlog as soon as it comes up."""
    job = attempts.job(max_attempts=1)
    for _ in range(5):
        (run_id,) = trigger(attempts, (job, {}))
        attempts.finish(run_id, attempts.begin(run_id), **FAILURE)
    runs = trigger(attempts, (job, {}), (job, {}))
    other = attempts.job()
    (free,) = trigger(attempts, (other, {}))
    assert claim(attempts) == [free]
    assert [attempts.row(run_id).status for run_id in runs] == ["queued", "queued"]
    attempts.pass_(61)
    with attempts.store.writing() as writer:
        assert end_holds(writer, attempts.store.moment) == 2
    assert claim(attempts) == runs[:1]
    assert not attempts.row(runs[1]).is_ready


def test_each_environment_has_its_circuit(attempts: Attempts) -> None:
    """An endpoint that fails in staging would hold up the runs of production."""
    url = "https://example.com/of-two-environments"
    staging, production = (attempts.job(environment_id=name, endpoint_url=url, max_attempts=1) for name in ("s", "p"))
    for _ in range(5):
        (run_id,) = trigger(attempts, (staging, {}))
        attempts.finish(run_id, attempts.begin(run_id), **FAILURE)
    held, free = trigger(attempts, (staging, {}), (production, {}))
    assert claim(attempts) == [free]
    assert attempts.row(held).status == "queued"


def test_a_run_that_waits_for_its_next_attempt_is_not_claimed_before(attempts: Attempts) -> None:
    """A retry would come at once, and an overloaded endpoint get more requests instead of fewer."""
    (run_id,) = trigger(attempts, (attempts.job(), {}))
    attempts.finish(run_id, attempts.begin(run_id), **FAILURE)
    with attempts.store.writing() as writer:
        assert end_holds(writer, attempts.store.moment) == 0
    assert claim(attempts) == []
    attempts.pass_(2)
    with attempts.store.writing() as writer:
        assert end_holds(writer, attempts.store.moment) == 1
    assert claim(attempts) == [run_id]
    assert attempts.row(run_id).next_retry_at is None
