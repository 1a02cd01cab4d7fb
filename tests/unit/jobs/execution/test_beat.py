"""Signs of life of executions."""

from __future__ import annotations

from sluice_agent.jobs.runs.transitions import Canceled
from sluice_agent.jobs.store.schema import run as run_table
from tests.support.job_attempts import Attempts


def test_a_sign_of_life_is_recorded(attempts: Attempts) -> None:
    """A long attempt would be taken for lost, and sent a second time."""
    runs = [attempts.trigger(attempts.job()) for _ in range(3)]
    executions = {attempts.begin(run): run for run in runs[:2]}
    attempts.pass_(30)
    assert attempts.beat(executions) == []
    assert [attempts.row(run).heartbeat_at for run in runs] == [attempts.store.moment, attempts.store.moment, None]


def test_what_nobody_waits_for_is_aborted(attempts: Attempts) -> None:
    """A slot would be held by a request whose answer counts no more; or one be aborted that counts."""
    job = attempts.job()
    names = ("canceled", "replaced", "lost", "deleted", "going")
    runs = {name: attempts.trigger(job) for name in names}
    executions = {name: attempts.begin(run) for name, run in runs.items()}
    attempts.offer(runs["canceled"], Canceled())
    attempts.lose(runs["replaced"])
    attempts.begin(runs["replaced"], 2)
    attempts.lose(runs["lost"])
    with attempts.store.writing() as writer:
        writer.execute(run_table.delete().where(run_table.c.id == runs["deleted"]))
    aborted = attempts.beat({executions[name]: runs[name] for name in names})
    assert set(aborted) == {executions[name] for name in ("canceled", "replaced", "deleted")}


def test_nobody_else_keeps_a_run_alive(attempts: Attempts) -> None:
    """Who knows the ids of runs could keep them under way for ever after their worker is gone."""
    run = attempts.trigger(attempts.job())
    attempts.begin(run)
    begun = attempts.row(run).heartbeat_at
    attempts.pass_(30)
    assert attempts.beat({attempts.name(): run}) != []
    assert attempts.row(run).heartbeat_at == begun
