"""The engine at work: in a server without a broker, and with messages that can't be sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from sluice_agent.jobs.engine.carrier import CarrierAwayError
from sluice_agent.jobs.engine.claim import Claim
from sluice_agent.jobs.engine.engine import Engine
from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.jobs.engine.stale import note_published
from sluice_agent.jobs.store.takers import abandoned_queue
from tests.support.endpoint import running
from tests.support.job_attempts import Attempts
from tests.support.local_sluice import local_sluice
from tests.support.misbehaviour import status
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver


class Messages:
    """A carrier that fails with the errors in `failures`, one for each sending, and then has what was sent."""

    outlives_process = True
    slots = 1

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.sent: list[Claim] = []
        self.has_waiting = True
        self.looks = 0

    def send(self, claims: Sequence[Claim]) -> list[str]:
        """Send, or fail."""
        if self.failures:
            raise self.failures.pop(0)
        self.sent.extend(claims)
        return [claim.run_id for claim in claims]

    def watch(self, *, is_executing: bool) -> None:
        """Know it."""

    def is_empty(self) -> bool:
        """Return whether no message waits."""
        self.looks += 1
        return not self.has_waiting

    def start(self) -> None:
        """Begin."""

    def close(self) -> None:
        """End."""


@contextmanager
def engine_of(attempts: Attempts, messages: Messages, **options: float) -> Iterator[None]:
    """Run an engine, by the time of now."""
    attempts.now = datetime.now(timezone.utc)
    engine = Engine(attempts.store, messages, replace(EngineOptions(poll=0.05), **options), lambda: 0.5)
    engine.start()
    try:
        yield
    finally:
        engine.close()


def test_a_server_without_a_broker_executes_runs_itself(tmp_path: Path) -> None:
    """The demo, and a laptop without Redis, would show jobs that never run."""
    engine = EngineOptions(state_dir=tmp_path)
    with running(WebhookReceiver()) as target, local_sluice(tmp_path / "s.db", has_jobs=True, engine=engine) as server:
        client = server.client(path="/v1")
        job = {"project_id": "p", "name": "Mail", "slug": "mail", "endpoint_url": target.hook, "max_attempts": 2}
        job_id = client.post("/jobs", json=job).json()["id"]
        target.script(status(200, body='{"a": 1}'), status(500), status(503))
        for expected, attempt in (("completed", 1), ("dead_letter", 2)):
            run_id = client.post(f"/jobs/{job_id}/trigger", json={"payload": {"to": "x"}}).json()["id"]
            wait_until(lambda: "finished_at" in client.get(f"/runs/{run_id}").json(), 30, "the run did not end")  # noqa: B023
            run = client.get(f"/runs/{run_id}").json()
            assert (run["status"], run["attempt"]) == (expected, attempt)
        assert [request.raw for request in target.requests] == [b'{"to":"x"}'] * 3


def test_runs_wait_for_a_broker_that_is_away_and_the_engine_goes_on(attempts: Attempts) -> None:
    """Runs of a minute without a broker would be lost, use up their attempts, or be sent twice."""
    messages = Messages(CarrierAwayError("refused"), RuntimeError("a fault of ours"))
    run_id = attempts.trigger(attempts.job())
    with engine_of(attempts, messages):
        wait_until(lambda: len(messages.failures) == 1, 30, "nothing was sent")
        wait_until(lambda: "refused" in attempts.why_it_waits(run_id), 30, "the run is held, or nobody knows why")
        wait_until(lambda: not messages.failures or _pass(attempts), 30, "the engine has stopped")
        wait_until(lambda: messages.sent or _pass(attempts), 30, "the run was not sent")
        wait_until(lambda: attempts.row(run_id).published_at, 30, "its publish was not recorded")
    (claim,) = messages.sent
    assert (claim.run_id, claim.attempt, claim.retries) == (run_id, 1, 0)
    assert attempts.start(run_id, claim.ticket, attempts.name()) is not None


def test_a_claim_without_its_message_is_sent_by_the_next_engine(attempts: Attempts) -> None:
    """The runs of a server that was killed between its commit and its message would be claimed for ever."""
    messages = Messages()
    messages.slots = 2
    job = attempts.job()
    sent, unsent = attempts.trigger(job), attempts.trigger(job)
    for run_id in (sent, unsent):
        attempts.claim(run_id)
    with attempts.store.writing() as writer:
        note_published(writer, [sent], attempts.row(sent).claimed_at, attempts.store.moment)
    with engine_of(attempts, messages):
        wait_until(lambda: messages.sent, 30, "nothing was sent")
        _look_again(attempts, messages)
    (claim,) = messages.sent
    assert (claim.run_id, claim.attempt) == (unsent, 1)


def test_no_attempt_is_lost_before_its_worker_could_report(attempts: Attempts) -> None:
    """A server that is started again would send all requests under way a second time."""
    messages = Messages()
    run_id = attempts.trigger(attempts.job(retry_strategy="fixed"))
    attempts.now = datetime.now(timezone.utc)
    execution = attempts.begin(run_id)
    with engine_of(attempts, messages):
        for _ in range(14):  # 84 s
            _look_again(attempts, messages)
        assert attempts.row(run_id).status == "executing"
        _look_again(attempts, messages, 3_600)  # the machine was asleep
        for _ in range(14):
            _look_again(attempts, messages)
        assert attempts.row(run_id).status == "executing"
        attempts.pass_(9)
        wait_until(lambda: attempts.row(run_id).attempt == 2, 30, "the attempt is never lost")
    assert attempts.finish(run_id, execution) == "completed", "its report may still come"


def test_a_clock_that_was_ahead_stops_nothing(attempts: Attempts) -> None:
    """Once it is corrected by a day, schedules would not fire for that day, and limits refuse runs for as long."""
    with engine_of(attempts, Messages()):
        job = attempts.job(cron="* * * * *")
        limited = attempts.job(rate_limit_max=1, rate_limit_window_secs=60, dedup_window_secs=60)
        attempts.pass_(86_400)
        wait_until(lambda: attempts.runs(job), 30, "the schedule did not fire")
        ahead = attempts.trigger(limited)
        attempts.pass_(-86_400)
        assert attempts.trigger(limited) != ahead
        wait_until(lambda: len(attempts.runs(job)) > 1 or _pass(attempts), 30, "the schedule does not fire any more")


def test_no_outcome_is_overdue_before_its_worker_could_report(attempts: Attempts) -> None:
    """Runs whose outcomes wait for a server that was away would fail as it comes back; or never end without them."""
    messages = Messages()
    run_id = attempts.trigger(attempts.job(timeout_secs=1))
    attempts.now = datetime.now(timezone.utc)
    execution = attempts.begin(run_id)
    with engine_of(attempts, messages, overdue=12.0):
        for _ in range(16):  # 96 s, of which 90 are those after a start
            _look_again(attempts, messages)
            attempts.beat({execution: run_id})
        assert attempts.row(run_id).status == "executing"
        ended = "system_failed"
        wait_until(lambda: attempts.row(run_id).status == ended or _pass(attempts), 30, "it is executing for ever")


def _look_again(attempts: Attempts, messages: Messages, seconds: float = 6) -> None:
    """Let time pass, and wait until the engine has looked for claims and attempts that are lost."""
    looks = messages.looks
    attempts.pass_(seconds)
    wait_until(lambda: messages.looks > looks, 30, "the engine has stopped")


def test_a_backlog_is_sent_once_while_its_messages_wait(attempts: Attempts) -> None:
    """Each message of a backlog would be sent again and again; or one that was lost with its worker never."""
    messages = Messages()
    job = attempts.job()
    runs = []
    for _ in range(3):
        attempts.pass_(1)
        runs.append(attempts.trigger(job))
    with engine_of(attempts, messages, claim=10):
        wait_until(lambda: len(messages.sent) == 2, 30, "nothing was sent")
        looks = messages.looks
        wait_until(lambda: messages.looks >= looks + 5 or _pass(attempts), 30, "the engine has stopped")
        assert attempts.store.moment > attempts.row(runs[0]).claimed_until
        assert [claim.run_id for claim in messages.sent] == runs[:2], "two for each slot, and not again"
        messages.has_waiting = False
        wait_until(lambda: len(messages.sent) == 4 or _pass(attempts), 30, "lost messages were not replaced")
    assert [claim.run_id for claim in messages.sent[2:]] == runs[:2]


def test_no_run_is_held_by_a_queue_without_workers(attempts: Attempts) -> None:
    """A run would not expire, nor be ordered by its priority, while no worker is there; and nobody would know why."""
    messages = Messages()
    run_id = attempts.trigger(attempts.job())
    with engine_of(attempts, messages):
        wait_until(lambda: messages.sent, 30, "nothing was sent")
        messages.slots = 0
        wait_until(lambda: attempts.row(run_id).status == "queued" or _pass(attempts), 30, "the claim stays")
        with attempts.store.reading() as reader:
            assert abandoned_queue(reader) == "sluice.jobs"
        messages.slots = 1
        wait_until(lambda: len(messages.sent) == 2 or _pass(attempts), 30, "the run was not sent again")


def _pass(attempts: Attempts) -> bool:
    """Let a second pass, and return that what is waited for has not come yet."""
    attempts.pass_(1)
    return False
