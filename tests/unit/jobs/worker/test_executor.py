"""One execution of a message, against a server of the tests that plays the internal routes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice_agent.attempt_message import AttemptMessage
from sluice_agent.jobs.attempts.records import Outcome
from sluice_agent.jobs.worker.executor import End, Executor
from sluice_agent.jobs.worker.outcomes import Finish, OutcomeFiles
from sluice_agent.jobs.worker.server import JobsServer as Client
from sluice_agent.jobs.worker.under_way import UnderWay
from tests.support.endpoint import running
from tests.support.ingest_server import Exchange
from tests.support.jobs_server import JobsServer
from tests.support.misbehaviour import Behaviour, hangs, on_path, reset_before, status
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver

RUN = "r1"


@pytest.fixture
def server() -> Iterator[JobsServer]:
    with running(JobsServer()) as server:
        yield server


@pytest.fixture
def target() -> Iterator[WebhookReceiver]:
    with running(WebhookReceiver()) as receiver:
        yield receiver


class Worker:
    """An executor with its parts, whose pauses are recorded and take no time."""

    def __init__(self, server: JobsServer, directory: Path, key: str | None = "sk_test") -> None:
        client, outcomes = Client(server.url, key), OutcomeFiles(directory)
        self.pauses: list[float] = []
        self.now = 1_000.0
        self.started = 0
        self.under_way = UnderWay(client, outcomes, beat_seconds=0.05)
        self.executor = Executor(client, outcomes, self.under_way, self._sleep, lambda: self.now)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def _count_start(self) -> None:
        self.started += 1

    def run(self, until: float = 1_060.0) -> End:
        return self.executor.execute(RUN, AttemptMessage(1, f"ticket of {RUN}", until), self._count_start).end


@pytest.fixture
def worker(server: JobsServer, tmp_path: Path) -> Worker:
    return Worker(server, tmp_path)


def test_a_message_that_is_refused_sends_nothing(server: JobsServer, target: WebhookReceiver, worker: Worker) -> None:
    """A canceled run would be sent all the same; or a message that came twice."""
    server.add(RUN, target.hook)
    assert [worker.run(), worker.run()] == [End.COMPLETED, End.DROPPED]
    assert len(target.requests) == 1
    assert worker.started == 1


@pytest.mark.parametrize("behaviour", [status(503), status(429), reset_before])
def test_a_start_is_repeated_until_the_claim_ends(
    server: JobsServer, target: WebhookReceiver, worker: Worker, behaviour: Behaviour
) -> None:
    """A short restart of the server would cost each run its claim; or an old message be started beside a new one."""
    server.add(RUN, target.hook)
    server.standing(on_path(f"/api/internal/runs/{RUN}/start", behaviour))
    assert worker.run(until=1_060.0) is End.DROPPED
    assert sum(worker.pauses) == pytest.approx(60)
    assert max(worker.pauses) <= 10
    server.standing()
    assert worker.run(until=0.0) is End.COMPLETED, "the server alone decides: clocks may differ"


def test_a_start_whose_answer_was_lost_is_repeated(server: JobsServer, target: WebhookReceiver, worker: Worker) -> None:
    """The server would take the repetition for a second message, and the run never be executed."""
    server.add(RUN, target.hook)
    server.script(server.loses_answer)
    assert worker.run() is End.COMPLETED
    assert server.calls["start"] == 2


def test_a_wrong_key_ends_at_once(
    server: JobsServer, target: WebhookReceiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker would try for the whole claim, and nobody see why."""
    server.add(RUN, target.hook)
    worker = Worker(server, tmp_path, key="sk_wrong")
    assert worker.run() is End.DROPPED
    assert worker.pauses == []
    assert "set SLUICE_API_KEY to a key that may run jobs" in caplog.text


def test_an_outcome_is_delivered_once_the_server_is_back(
    server: JobsServer, target: WebhookReceiver, worker: Worker
) -> None:
    """A run would stay under way for ever, or be taken for lost meanwhile, and be sent again."""
    server.add(RUN, target.hook)
    server.standing(on_path(f"/api/internal/runs/{RUN}/finish", status(503)))
    assert worker.run() is End.COMPLETED, "as the attempt did"
    server.alive.clear()
    wait_until(lambda: RUN in server.alive, 10, "it is not reported as alive")
    assert server.outcomes == {}
    server.standing()
    wait_until(lambda: (RUN, 1) in server.outcomes, 10, "the outcome was not delivered")
    assert server.outcomes[RUN, 1]["status_code"] == 200


def test_an_outcome_that_nobody_waits_for_is_removed(
    server: JobsServer, target: WebhookReceiver, worker: Worker, tmp_path: Path
) -> None:
    """What a proxy does not let through would be sent for ever, also after the run has ended without it."""
    server.add(RUN, target.hook)
    server.standing(on_path(f"/api/internal/runs/{RUN}/finish", status(502)))
    worker.run()
    wait_until(lambda: RUN in server.alive, 10, "it is not reported as alive")
    assert len(list(tmp_path.glob("*.outcome"))) == 1
    server.canceled.add(RUN)
    wait_until(lambda: not list(tmp_path.glob("*.outcome")), 10, "the file stays")


def test_a_canceled_run_ends_its_request(server: JobsServer, target: WebhookReceiver, worker: Worker) -> None:
    """A slot would be held for a request that nobody needs."""
    server.add(RUN, target.hook)
    target.script(hangs())
    ends: list[End] = []
    thread = threading.Thread(target=lambda: ends.append(worker.run()))
    thread.start()
    wait_until(lambda: target.requests, 10, "no request came")
    server.canceled.add(RUN)
    thread.join(10)
    assert ends == [End.CANCELED]
    assert server.calls["finish"] == 0


def test_attempts_are_reported_as_alive(server: JobsServer, target: WebhookReceiver, worker: Worker) -> None:
    """The server would take a long attempt for lost, and send it a second time."""
    server.add(RUN, target.hook)
    target.script(hangs())
    thread = threading.Thread(target=worker.run)
    thread.start()
    wait_until(lambda: server.calls["beat"] >= 3, 10, "no signs of life came")
    target.release()
    thread.join(10)
    beats = server.calls["beat"]
    time.sleep(0.2)  # four of the thread's rounds
    assert server.calls["beat"] <= beats + 1, "nothing is reported that has ended"


def test_attempts_are_alive_while_a_backlog_of_outcomes_is_delivered(
    server: JobsServer, target: WebhookReceiver, worker: Worker, tmp_path: Path
) -> None:
    """After an outage of the server all attempts under way would be taken for lost, and sent again."""
    for number in range(300):
        name = f"{number:032}"
        server.add(name, target.hook)
        server.executions[name, 1] = name
        finish = Finish(run_id=name, attempt=1, execution=name, outcome=Outcome(status_code=200))
        (tmp_path / f"{name}.outcome").write_text(finish.model_dump_json())

    def slow(_: Exchange) -> bool:
        time.sleep(0.002)  # all outcomes together take longer than several of the thread's rounds
        return False

    server.standing(slow)
    server.add(RUN, target.hook)
    target.script(hangs())
    thread = threading.Thread(target=worker.run)
    thread.start()
    wait_until(lambda: server.calls["beat"] >= 3, 30, "no sign of life")
    assert len(server.outcomes) < 300, "they are not all before the next one"
    wait_until(lambda: len(server.outcomes) == 300, 30, "outcomes are left")
    target.release()
    thread.join()


def test_an_attempt_that_is_broken_off_is_reported(server: JobsServer, target: WebhookReceiver, worker: Worker) -> None:
    """A run would wait a minute and a half for its worker, which has been stopped coldly."""
    server.add(RUN, target.hook)

    def stop() -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        worker.executor.execute(RUN, AttemptMessage(1, f"ticket of {RUN}", 1_060.0), stop)
    assert server.outcomes[RUN, 1]["error"] == "the worker was stopped during the request"
    assert server.outcomes[RUN, 1]["error_class"] == "transient"


def test_the_server_decides_how_a_task_ends(server: JobsServer, target: WebhookReceiver, worker: Worker) -> None:
    """A task would be shown as retrying although its run has ended."""
    server.add(RUN, target.hook, max_attempts=3)
    target.script(status(500))
    server.standing(on_path(f"/api/internal/runs/{RUN}/finish", status(200, body='{"status": "dead_letter"}')))
    assert worker.run() is End.FAILED
