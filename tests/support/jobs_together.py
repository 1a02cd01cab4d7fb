"""Requests of many workers that are made in one transaction, on either database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from sluice_agent.jobs.runs.transitions import Canceled
from tests.support.job_attempts import FAILURE, SUCCESS, Attempts

_LIKE_ONE = 12  # runs whose requests take as many statements as those of one


def check_requests_together(attempts: Attempts) -> None:
    """Check that of requests that are made together each has the effect that it has alone."""
    job = attempts.job(max_attempts=2, webhook_url="https://example.com/ended")
    waiting = attempts.job()
    attempts.depend(waiting, job)
    waits = attempts.trigger(waiting)
    disabled = attempts.job()
    ended, failed, twice, canceled = (attempts.trigger(job) for _ in range(4))
    held = attempts.trigger(disabled)
    tickets = {run: attempts.claim(run) for run in (ended, failed, twice, canceled, held)}
    attempts.switch(disabled, enabled=False)
    attempts.offer(canceled, Canceled())
    executions = {run: attempts.name() for run in tickets}
    other = attempts.name()
    asked = [(run, tickets[run], executions[run]) for run in tickets]
    asked += [(twice, tickets[twice], other), (failed, tickets[failed], executions[failed]), ("no run", "", other)]
    asked.append((ended, "no ticket", other))
    started = attempts.start_together(asked)
    assert [spec is not None and spec.run_id for spec in started] == [
        *(ended, failed, twice, False, False),
        *(False, failed, False, False),
    ]
    assert started[1] == started[6], "the same execution gets the same answer"
    assert attempts.row(held).status == "queued"
    attempts.pass_(1)
    reports = [
        (ended, executions[ended], SUCCESS),
        (failed, executions[failed], FAILURE),
        (twice, executions[twice], FAILURE),
        (twice, executions[twice], SUCCESS),
        (canceled, executions[canceled], SUCCESS),
        (ended, other, FAILURE),
    ]
    assert attempts.finish_together(reports) == ["completed", "queued", "queued", "queued", None, None]
    assert [(row.attempt, row.result) for row in map(attempts.row, (ended, failed, twice))] == [
        (1, SUCCESS["result"]),
        (2, None),
        (2, None),
    ]
    assert [row.failures for row in attempts.circuits() if row.url == job.settings.endpoint_url] == [2]
    assert [attempts.attempts(run)[0].error_class for run in (ended, failed, twice)] == [None, "server", "server"]
    assert attempts.row(waits).status == "queued", "what has waited for one of them begins"


def check_statements(attempts: Attempts) -> None:
    """Check that the requests of many workers take as many statements as those of one."""
    job = attempts.job()
    counts = []
    for size in (1, _LIKE_ONE):
        runs = [attempts.trigger(job) for _ in range(size)]
        asked = [(run, attempts.claim(run), attempts.name()) for run in runs]
        with _statements(attempts) as statements:
            assert None not in attempts.start_together(asked)
            assert set(attempts.finish_together([(run, name, SUCCESS) for run, _, name in asked])) == {"completed"}
        counts.append(len(statements))
    assert counts[0] == counts[1], statements


@contextmanager
def _statements(attempts: Attempts) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(attempts.store.engine, "before_cursor_execute", note)
    yield statements
    event.remove(attempts.store.engine, "before_cursor_execute", note)
