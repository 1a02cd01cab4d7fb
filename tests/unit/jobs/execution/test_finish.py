"""The end of attempts: what a report changes, and that each is taken once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sluice_agent.jobs.attempts.circuit import FAILURES, OPEN_SECONDS
from sluice_agent.jobs.attempts.records import Trace
from sluice_agent.jobs.runs.transitions import Canceled, Claimed
from tests.support.job_attempts import FAILURE, SECOND, SUCCESS, Attempts

TIMEOUT = {"error": "no answer within 2 s", "error_class": "timeout"}
REFUSED = {"status_code": 404, "error": "404", "error_class": "client"}
FORBIDDEN = {**FAILURE, "ends_run": True}


def test_a_success_ends_the_run_with_its_times(attempts: Attempts) -> None:
    """A run that has succeeded would be sent again, or its result be lost."""
    run = attempts.trigger(attempts.job())
    attempts.pass_(2)
    ticket = attempts.claim(run)
    attempts.pass_(0.25)
    assert attempts.start(run, ticket, "e" * 32)
    attempts.pass_(1)
    trace = Trace(connect_ms=3, ttfb_ms=40, transfer_ms=1, dispatch_ms=44, total_ms=50)
    assert attempts.finish(run, "e" * 32, **SUCCESS, trace=trace) == "completed"
    row = attempts.row(run)
    assert (row.result, row.error, row.error_class) == ('{"sent": 1}', None, None)
    assert row.finished_at == row.started_at + SECOND
    assert json.loads(row.execution_trace) == {"queue_wait_ms": 2250, "dequeue_ms": 250, **json.loads(trace.to_json())}
    [attempt] = attempts.attempts(run)
    assert (attempt.status_code, attempt.finished_at, json.loads(attempt.trace)["total_ms"]) == (
        200,
        row.finished_at,
        50,
    )


@pytest.mark.parametrize(
    ("outcome", "statuses"),
    [
        (FAILURE, ["queued", "dead_letter"]),
        (TIMEOUT, ["queued", "timed_out"]),
        (REFUSED, ["dead_letter"]),
        (FORBIDDEN, ["dead_letter"]),
    ],
)
def test_a_failure_is_retried_while_attempts_remain(
    attempts: Attempts, outcome: dict[str, Any], statuses: list[str]
) -> None:
    """A run would be given up too early, or tried for ever."""
    run = attempts.trigger(attempts.job(max_attempts=2))
    for number, status in enumerate(statuses, 1):
        assert attempts.finish(run, attempts.begin(run, number), number, **outcome) == status
        row = attempts.row(run)
        assert row.error == outcome["error"]
        assert (row.execution_trace is not None) == (number == len(statuses)), "the times of its last attempt"
    assert row.finished_at is not None
    assert row.next_retry_at is None
    assert [attempt.error_class for attempt in attempts.attempts(run)] == [outcome["error_class"]] * len(statuses)


@pytest.mark.parametrize(
    ("settings", "delays"),
    [
        ({}, [1, 2, 4]),
        ({"retry_strategy": "linear"}, [1, 2, 3]),
        ({"retry_strategy": "fixed"}, [1, 1, 1]),
        ({"retry_strategy": "custom", "retry_delays_secs": [7, 90]}, [7, 90, 90]),
    ],
)
def test_the_next_attempt_waits_as_the_strategy_says(
    attempts: Attempts, settings: dict[str, Any], delays: list[float]
) -> None:
    """The delays that a user has set would mean nothing."""
    run = attempts.trigger(attempts.job(max_attempts=4, **settings))
    for number, delay in enumerate(delays, 1):
        attempts.finish(run, attempts.begin(run, number), number, **FAILURE)
        row = attempts.row(run)
        assert row.next_retry_at == row.available_at == attempts.store.moment + delay * SECOND
        assert not row.is_ready


def test_the_endpoints_word_is_heard(attempts: Attempts) -> None:
    """An endpoint that says when it is back would be asked before."""
    run = attempts.trigger(attempts.job())
    busy = {"status_code": 429, "error": "429", "error_class": "rate_limited", "retry_after_secs": 75}
    attempts.finish(run, attempts.begin(run), **busy)
    assert attempts.row(run).next_retry_at == attempts.store.moment + 75 * SECOND


def test_a_report_that_comes_again_changes_nothing(attempts: Attempts) -> None:
    """A report whose answer was lost would count as another attempt, and the run be given up early."""
    job = attempts.job(max_attempts=3)
    run = attempts.trigger(job)
    execution = attempts.begin(run)
    assert [attempts.finish(run, execution, **FAILURE) for _ in range(3)] == ["queued"] * 3
    assert (attempts.row(run).attempt, attempts.row(run).retries) == (2, 1)
    assert attempts.finish(run, execution, **SUCCESS) == "queued", "the first report has said how it ended"
    assert attempts.row(run).result is None
    [circuit] = [circuit for circuit in attempts.circuits() if circuit.url == job.settings.endpoint_url]
    assert circuit.failures == 1
    attempts.finish(run, attempts.begin(run, 2), 2)
    assert attempts.finish(run, execution, **FAILURE) is None
    assert attempts.row(run).status == "completed"


def test_a_late_report_counts_while_the_next_attempt_has_not_started(attempts: Attempts) -> None:
    """A request that has succeeded would be sent again, as the server was away when it ended."""
    for is_claimed in (False, True):
        run = attempts.trigger(attempts.job())
        execution = attempts.begin(run)
        started_at = attempts.row(run).started_at
        attempts.pass_(100)
        attempts.lose(run)
        ticket = attempts.claim(run) if is_claimed else ""
        assert attempts.finish(run, execution) == "completed"
        row = attempts.row(run)
        assert (row.result, row.started_at) == (SUCCESS["result"], started_at)
        assert attempts.start(run, ticket, "e" * 32, attempt=2) is None
        assert [attempt.error_class for attempt in attempts.attempts(run)] == [None]


def test_a_late_failure_lets_the_next_attempt_go_on(attempts: Attempts) -> None:
    """A failure that is reported late would count twice; or one that forbids another attempt would not be heard."""
    run = attempts.trigger(attempts.job())
    execution = attempts.begin(run)
    attempts.lose(run)
    assert attempts.finish(run, execution, **FAILURE) == "queued"
    assert (attempts.row(run).attempt, attempts.row(run).error) == (2, FAILURE["error"])
    other = attempts.trigger(attempts.job())
    execution = attempts.begin(other)
    attempts.lose(other)
    assert attempts.finish(other, execution, **FORBIDDEN) == "dead_letter"


def test_a_report_of_an_attempt_that_was_replaced_is_refused(attempts: Attempts) -> None:
    """Two answers would count for one run, and the later one be lost."""
    run = attempts.trigger(attempts.job())
    first = attempts.begin(run)
    attempts.lose(run)
    second = attempts.begin(run, 2)
    assert attempts.finish(run, first) is None
    assert attempts.row(run).status == "executing"
    assert attempts.finish(run, second, attempt=1) is None
    assert attempts.finish(run, second, attempt=2) == "completed"


def test_only_who_has_started_an_attempt_finishes_it(attempts: Attempts) -> None:
    """Who knows the id of a run could end it, with any result."""
    run = attempts.trigger(attempts.job())
    attempts.begin(run)
    assert attempts.finish(run, attempts.name()) is None
    assert attempts.finish("no-such-run", attempts.name()) is None
    assert attempts.row(run).status == "executing"


def test_a_canceled_run_stays_canceled(attempts: Attempts) -> None:
    """A run that was canceled would be shown as completed."""
    run = attempts.trigger(attempts.job())
    execution = attempts.begin(run)
    attempts.offer(run, Canceled())
    assert attempts.finish(run, execution) is None
    assert attempts.row(run).status == "canceled"
    assert [attempt.error_class for attempt in attempts.attempts(run)] == ["canceled"]


def test_the_end_of_a_run_lets_those_begin_that_wait_for_it(attempts: Attempts) -> None:
    """A run that depends on another one would wait for ever."""
    first, second = attempts.job(), attempts.job()
    attempts.depend(second, first)
    run, waiting = attempts.trigger(first), attempts.trigger(second)
    assert attempts.row(waiting).status == "waiting"
    attempts.finish(run, attempts.begin(run))
    assert attempts.row(waiting).status == "queued"


def circuit_of(attempts: Attempts, url: str) -> tuple[int, int | None]:
    found = [circuit for circuit in attempts.circuits() if circuit.url == url]
    return (found[0].failures, found[0].open_until) if found else (0, None)


def test_failures_in_a_row_open_the_circuit_of_the_endpoint(attempts: Attempts) -> None:
    """An endpoint that is down would get every run, and each attempt of it be used up."""
    job = attempts.job(max_attempts=100)
    url = job.settings.endpoint_url
    run = attempts.trigger(job)
    for number in range(1, FAILURES + 1):
        assert circuit_of(attempts, url) == (number - 1, None)
        attempts.finish(run, attempts.begin(run, number), number, **(FAILURE if number % 2 else TIMEOUT))
    assert circuit_of(attempts, url) == (FAILURES, attempts.store.moment + OPEN_SECONDS * SECOND)
    attempts.pass_(61)
    attempts.finish(run, attempts.begin(run, FAILURES + 1), FAILURES + 1, **FAILURE)
    assert circuit_of(attempts, url) == (FAILURES, attempts.store.moment + OPEN_SECONDS * SECOND)
    attempts.finish(run, attempts.begin(run, FAILURES + 2), FAILURES + 2, **REFUSED)
    assert circuit_of(attempts, url) == (0, None)


def test_a_worker_that_stops_opens_no_circuit(attempts: Attempts) -> None:
    """Each deployment of workers would stop all runs of an endpoint for a minute."""
    job = attempts.job()
    run = attempts.trigger(job)
    stopped = {"error": "the worker was stopped during the request", "error_class": "transient", "was_stopped": True}
    assert attempts.finish(run, attempts.begin(run), **stopped) == "queued"
    assert circuit_of(attempts, job.settings.endpoint_url) == (0, None)


@pytest.mark.parametrize("result", ["not JSON", "NaN", '{"a": \ud83d}', "[" * 100_000, '{"a": "\x00"}'])
def test_a_result_is_stored_whatever_it_is(attempts: Attempts, result: str) -> None:
    """A worker would send it for ever, as the server fails; or the list of runs be no JSON for all."""
    run = attempts.trigger(attempts.job())
    execution = attempts.begin(run)
    try:
        result.encode()
    except UnicodeEncodeError:
        result = result.encode("utf-8", "replace").decode()
    assert attempts.finish(run, execution, status_code=200, result=result) == "completed"
    stored = attempts.row(run).result
    assert json.loads(stored) == result
    assert "\x00" not in stored


def test_an_error_is_stored_whatever_it_is(attempts: Attempts) -> None:
    """A report that the database does not take would be sent for ever, and keep all later ones of its worker."""
    run = attempts.trigger(attempts.job())
    execution = attempts.begin(run)
    attempts.finish(run, execution, **{**REFUSED, "error": "\x00" + "e" * 100_000})
    stored = attempts.row(run).error
    assert stored.startswith("\N{REPLACEMENT CHARACTER}e")
    assert len(stored) == 16_384


def test_a_lost_attempt_has_an_end(attempts: Attempts) -> None:
    """The attempts of a run would show one under way that is not."""
    run = attempts.trigger(attempts.job())
    attempts.begin(run)
    attempts.lose(run)
    [attempt] = attempts.attempts(run)
    assert (attempt.finished_at, attempt.error_class) == (attempts.store.moment, "lost")
    attempts.offer(run, Claimed(attempts.store.moment, b""))
    assert len(attempts.attempts(run)) == 1


def test_heads_are_kept_of_a_run_in_debug_mode_alone(attempts: Attempts) -> None:
    """Who debugs a run would see nothing; or each list of runs would carry the heads of all."""
    exchange = {"url": "https://example.com/", "request_headers": {"X-Attempt": "1"}, "status_code": 200}
    trace = {"total_ms": 7, "exchanges": [exchange]}
    job = attempts.job()
    for debug_mode in (True, False):
        run = attempts.trigger(job, debug_mode=debug_mode)
        attempts.finish(run, attempts.begin(run), **SUCCESS, trace=trace)
        [kept] = [json.loads(row.trace) for row in attempts.attempts(run)]
        assert kept["total_ms"] == 7
        assert kept.get("exchanges") == ([exchange] if debug_mode else None)
        assert "exchanges" not in json.loads(attempts.row(run).execution_trace)


def test_a_start_asks_for_heads_in_debug_mode(attempts: Attempts) -> None:
    """The worker would report none."""
    run = attempts.trigger(attempts.job(), debug_mode=True)
    spec = attempts.start(run, attempts.claim(run), "e" * 32)
    assert spec is not None
    assert spec.debug_mode
