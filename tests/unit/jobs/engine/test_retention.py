"""Which runs are deleted, and when."""

from __future__ import annotations

from datetime import timedelta

from sluice_agent.jobs.engine.retention import Retention
from sluice_agent.jobs.runs.transitions import Canceled, Faulted
from tests.support.job_attempts import FAILURE, Attempts

DAY = 86_400


def test_runs_are_deleted_by_their_age_and_end(attempts: Attempts) -> None:
    """The database would grow for ever; or a run be gone that waits, or that somebody has to look into."""
    job = attempts.job(max_attempts=1)
    completed, dead, canceled, faulted, waiting = (attempts.trigger(job, tags={"a": "b"}) for _ in range(5))
    attempts.finish(completed, attempts.begin(completed))
    attempts.finish(dead, attempts.begin(dead), **FAILURE)
    attempts.offer(canceled, Canceled())
    attempts.claim(faulted)
    attempts.offer(faulted, Faulted("a fault"))
    deletion = Retention(attempts.store, timedelta(days=30))

    def remaining_after(days: float) -> set[str]:
        attempts.pass_(days * DAY)
        deletion.delete_some(attempts.store.moment)
        return {str(row.id) for row in attempts.all_runs()}

    assert remaining_after(29.9) == {completed, dead, canceled, faulted, waiting}
    assert remaining_after(0.2) == {dead, faulted, waiting}
    assert attempts.attempts(completed) == []
    assert remaining_after(60) == {dead, waiting}
    Retention(attempts.store, None).delete_some(attempts.store.moment)


def test_a_backlog_is_deleted_in_parts(attempts: Attempts) -> None:
    """One transaction would delete a million runs, and all others wait for it."""
    job = attempts.job()
    for _ in range(502):
        attempts.offer(attempts.trigger(job), Canceled())
    attempts.pass_(31 * DAY)
    deletion = Retention(attempts.store, timedelta(days=30))
    counts = []
    for _ in range(2):
        deletion.delete_some(attempts.store.moment)
        counts.append(len(attempts.all_runs()))
    assert counts == [2, 0]
