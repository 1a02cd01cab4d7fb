"""Engines of several servers on one PostgreSQL: one of them works, and another one goes on after it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from sqlalchemy import insert

from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.jobs.store.schema import lease
from tests.integration.test_jobs_engine import make_job, read, trigger, wait_for_end
from tests.support.endpoint import running
from tests.support.ingest_server import Exchange
from tests.support.job_attempts import SECOND, Attempts
from tests.support.local_sluice import local_sluice
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver


class Overlap:
    """Answers, and counts how many requests of a job were there at a time."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> bool:
        """Answer a little later, so that another request could come meanwhile."""
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.02)
        with self._lock:
            self._now -= 1
        exchange.send(200, b"{}")
        return True


def test_two_engines_keep_a_limit_and_one_goes_on_without_the_other(new_postgresql: str, tmp_path: Path) -> None:
    """A job that may run once at a time would run twice, or its runs wait for a server that was stopped."""
    overlap = Overlap()
    with running(WebhookReceiver()) as target:
        target.standing(overlap)
        engine = EngineOptions(state_dir=tmp_path)
        with local_sluice(new_postgresql, has_jobs=True, engine=engine) as first:
            with local_sluice(new_postgresql, has_jobs=True, engine=engine) as second:
                clients = [server.client(path="/v1") for server in (first, second)]
                job = make_job(clients[0], target, "single", max_concurrency=1)
                runs = [trigger(clients[number % 2], job, payload={"n": number}) for number in range(20)]
                assert wait_for_end(clients[1], runs) == ["completed"] * 20
            more = [trigger(clients[0], job, payload={"m": number}) for number in range(3)]
            assert wait_for_end(clients[0], more) == ["completed"] * 3
        assert overlap.most == 1
        assert sorted(request.headers["x-run-id"] for request in target.requests) == sorted([*runs, *more])


def test_another_server_takes_over_from_one_that_was_killed(new_postgresql: str, tmp_path: Path) -> None:
    """Runs that a killed server had just claimed would never be executed; or the others wait for minutes."""
    killed = Attempts(new_postgresql)
    with running(WebhookReceiver()) as target, local_sluice(new_postgresql, has_jobs=True) as idle:
        client = idle.client(path="/v1")
        claimed = trigger(client, make_job(client, target, "mail"))
        killed.claim(claimed)  # between its commit and the message
        with killed.store.writing() as writer:
            end = time.time_ns() // 1_000
            until = end + round(EngineOptions().lease * SECOND)  # the longest that it may have had
            writer.execute(insert(lease).values(name="jobs engine", holder="killed", until=until))
        with local_sluice(new_postgresql, has_jobs=True, engine=EngineOptions(state_dir=tmp_path)):
            time.sleep(1)
            assert read(client, claimed)["status"] == "dequeued", "the other one may still work"
            wait_until(lambda: read(client, claimed)["status"] == "completed", 15, "no server has taken over")
            assert killed.row(claimed).claimed_at < end + 10 * SECOND
        assert len(target.requests) == 1
    killed.store.close()
