"""Named limits: how many attempts start within a window, in all jobs that name the limit."""

from __future__ import annotations

import random
from datetime import timedelta

from sqlalchemy import func, select

from sluice_agent.jobs.definitions.jobs import Job, delete_job, find_job
from sluice_agent.jobs.engine.claim import JobCache, claim_runs
from sluice_agent.jobs.engine.moves import end_holds
from sluice_agent.jobs.engine.stale import release_all
from sluice_agent.jobs.runs.named_limits import limit_without_room
from sluice_agent.jobs.store.schema import limited_start
from tests.support.job_attempts import FAILURE, Attempts


def limit(most: int, window: int, name: str = "mail") -> dict[str, object]:
    return {"name": name, "max": most, "window_secs": window}


def claim(attempts: Attempts, places: int = 100) -> dict[str, str]:
    """Claim runs as the engine does, and return their tickets by their ids."""
    with attempts.store.writing() as writer:
        return {
            claimed.run_id: claimed.ticket
            for claimed in claim_runs(writer, JobCache(), places, attempts.store.moment, 300)
        }


def start(attempts: Attempts, tickets: dict[str, str], attempt: int = 1) -> None:
    for run_id, ticket in tickets.items():
        assert attempts.start(run_id, ticket, attempts.name(), attempt) is not None


def trigger(attempts: Attempts, job: Job, count: int) -> list[str]:
    runs = []
    for _ in range(count):
        attempts.pass_(0.001)
        runs.append(attempts.trigger(job))
    return runs


def waits_for(attempts: Attempts, job: Job) -> str | None:
    with attempts.store.reading() as reader:
        return limit_without_room(reader, attempts.read_job(job.id), attempts.store.moment)


def test_a_limit_is_shared_by_the_jobs_that_name_it_and_slides(attempts: Attempts) -> None:
    """An API that allows two calls a minute would get two from each job; or a job without a limit would wait."""
    first, second = (attempts.job(rate_limit_keys=[limit(2, 60)]) for _ in "ab")
    free = attempts.job()
    a = trigger(attempts, first, 2)
    b = trigger(attempts, second, 2)
    (c,) = trigger(attempts, free, 1)
    attempts.now += timedelta(seconds=1)
    start(attempts, claim(attempts) | {})
    assert [attempts.row(run_id).status for run_id in (*a, *b, c)] == [*["executing"] * 2, *["queued"] * 2, "executing"]
    assert (waits_for(attempts, second), waits_for(attempts, free)) == ("mail", None)
    attempts.pass_(59.9)
    assert claim(attempts) == {}
    attempts.pass_(0.2)
    assert list(claim(attempts)) == b


def test_the_stricter_of_two_numbers_counts(attempts: Attempts) -> None:
    """Of two teams the more careful one would be overruled."""
    few = attempts.job(rate_limit_keys=[limit(1, 10), limit(5, 600, "other")])
    many = attempts.job(rate_limit_keys=[limit(3, 60)])
    runs = trigger(attempts, many, 5)
    starts = []
    for second in range(130):
        tickets = claim(attempts)
        start(attempts, tickets)
        starts += [second] * len(tickets)
        attempts.pass_(1)
    assert starts == [0, 10, 20, 60, 70]
    assert [attempts.row(run_id).status for run_id in runs] == ["executing"] * 5
    assert waits_for(attempts, few) is None


def test_a_claim_holds_its_place_until_it_starts_or_goes_back(attempts: Attempts) -> None:
    """Messages that waited in the broker would all start at once, beyond the limit; or lost ones block it for ever."""
    job = attempts.job(rate_limit_keys=[limit(2, 10)])
    runs = trigger(attempts, job, 4)
    tickets = claim(attempts)
    assert list(tickets) == runs[:2]
    attempts.pass_(100)
    assert claim(attempts) == {}
    with attempts.store.writing() as writer:
        release_all(writer, attempts.store.moment)
    assert list(claim(attempts)) == runs[:2]


def test_each_attempt_counts(attempts: Attempts) -> None:
    """The retries of a failing job would exceed what its endpoint allows."""
    job = attempts.job(rate_limit_keys=[limit(1, 60)], max_attempts=3)
    (run_id,) = trigger(attempts, job, 1)
    tickets = claim(attempts)
    execution = attempts.name()
    attempts.start(run_id, tickets[run_id], execution)
    attempts.finish(run_id, execution, **FAILURE)
    attempts.pass_(30)
    with attempts.store.writing() as writer:
        assert end_holds(writer, attempts.store.moment) == 1
    assert claim(attempts) == {}
    attempts.pass_(31)
    start(attempts, claim(attempts), attempt=2)
    assert attempts.row(run_id).status == "executing"


def test_a_backlog_is_started_in_its_order_and_never_beyond_a_limit(attempts: Attempts) -> None:
    """Runs would overtake each other, or an endpoint get more than it allows, when workers take messages late."""
    chance = random.Random(5)
    rules = ((3, 7), (5, 20))
    jobs = [attempts.job(rate_limit_keys=[limit(*rule), limit(4, 9, "own")]) for rule in rules]
    waiting = [run_id for job in jobs for run_id in trigger(attempts, job, 12)]
    tickets: dict[str, str] = {}
    starts = []
    for second in range(400):
        tickets |= claim(attempts, places=chance.randint(1, 12))
        taken = {run_id: tickets.pop(run_id) for run_id in list(tickets) if chance.random() < 0.4}
        start(attempts, taken)
        starts += [second] * len(taken)
        if chance.random() < 0.2:
            with attempts.store.writing() as writer:
                release_all(writer, attempts.store.moment)
            tickets.clear()
        for run_id in taken:
            attempts.finish(run_id, str(attempts.row(run_id).execution))
        attempts.pass_(1)
    assert len(starts) == len(waiting)
    for most, window in rules:
        for begin in starts:
            assert sum(begin <= at < begin + window for at in starts) <= most


def test_what_was_counted_is_forgotten(attempts: Attempts) -> None:
    """The table would grow with each attempt of years, and a name that is used again begin with a full limit."""
    job = attempts.job(rate_limit_keys=[limit(2, 60), limit(2, 60)])
    for _ in range(3):
        for run_id in trigger(attempts, job, 2):
            attempts.finish(run_id, attempts.begin(run_id))
        attempts.pass_(61)
    with attempts.store.reading() as reader:
        assert reader.scalar(select(func.count()).select_from(limited_start)) == 2
    with attempts.store.writing() as writer:
        delete_job(writer, find_job(writer, job.id, None))
        assert writer.scalar(select(func.count()).select_from(limited_start)) == 0
    again = attempts.job(rate_limit_keys=[limit(1, 600)])
    (run_id,) = trigger(attempts, again, 1)
    assert list(claim(attempts)) == [run_id]
