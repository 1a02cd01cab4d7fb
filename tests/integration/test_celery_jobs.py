"""Existing Celery tasks as jobs, as a user has them: real workers on Redis, whose agents report to a real server."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest

from sluice_agent.jobs.definitions.views import time_text
from sluice_agent.server.timestamps import to_moment
from tests.support.brokers import Broker, redis_broker
from tests.support.process import Process, free_port, listens
from tests.support.servers import RedisServer
from tests.support.sidecar import Sidecar
from tests.support.task_jobs import TaskJobs
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

pytestmark = pytest.mark.xdist_group("celery_jobs")  # they share a server and a worker

TASKS = "tests.integration.tasks"
SILENCE = 4.0  # seconds: of the engine's times
SHOP = {"project_id": "shop"}
HELD = {"queued", "dequeued", "executing", "delayed"}


@dataclass
class Shop:
    """A server, a broker and a worker with the agent, which the tests of this module share."""

    directory: Path
    redis: RedisServer
    broker: Broker
    port: int = field(default_factory=free_port)
    processes: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}/v1", headers={"Authorization": "Bearer sk_test"}, timeout=30
        )
        self.agent = {
            "SLUICE_API_KEY": "sk_test",
            "SLUICE_API_URL": f"http://127.0.0.1:{self.port}/api",
            "SLUICE_CONNECTION_ID": str(uuid.uuid4()),
            "SLUICE_FLUSH_INTERVAL": "0.1",
            "SLUICE_HEARTBEAT_INTERVAL": "0.5",
            "SLUICE_CAPTURE_ARGS": "1",
        }

    def serve(self) -> None:
        """Start the server, and wait until it listens."""
        arguments = (str(self.port), str(self.directory / "s.db"), self.broker.url, str(SILENCE))
        env = {**os.environ, "SLUICE_JOBS_TASKS": f"{TASKS}.*", "SLUICE_JOBS_QUEUES": f"plain,{self.broker.queue}"}
        log = self.directory / "server.log"
        self.processes.append(Process([sys.executable, "-m", "tests.support.jobs_serve", *arguments], log, env))
        wait_until(lambda: listens(self.port), 40, "the server does not listen", self.processes[-1].tail)

    def stop_server(self) -> None:
        """End the server at once."""
        self.processes.pop().stop(9)

    def worker(self, **options: Any) -> WorkerProcess:
        """Start a worker with the agent."""
        state = self.directory / f"state-{uuid.uuid4().hex[:6]}"
        state.mkdir(mode=0o700)
        env = {**self.agent, "SLUICE_STATE_DIR": str(state)}
        return WorkerProcess(self.directory, self.broker, env=env, **options)

    def job(self, task: str, query: str = "", **fields: Any) -> str:
        """Make a job of a task, and return its id."""
        query = query or f"queue={self.broker.queue}"
        body = {
            "project_id": "shop",
            "name": task,
            "slug": f"{task}-{uuid.uuid4().hex[:6]}",
            "endpoint_url": f"celery://{TASKS}.{task}?{query}",
        }
        answer = self.client.post("/jobs", json=body | fields)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def trigger(self, job: str, payload: Any = None, **fields: Any) -> str:
        """Trigger a run, and return its id."""
        given = fields if payload is None else {"payload": payload, **fields}
        answer = self.client.post(f"/jobs/{job}/trigger", json=given)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def run(self, run: str) -> dict[str, Any]:
        """Return a run."""
        found: dict[str, Any] = self.client.get(f"/runs/{run}").json()
        return found

    def reaches(self, run: str, status: str) -> dict[str, Any]:
        """Wait until a run has a status, and return it."""

        def has_it() -> dict[str, Any] | None:
            found = self.run(run)
            return found if found["status"] == status else None

        return wait_until(has_it, 30, f"the run is not {status}", lambda: (self.run(run), self.processes[-1].tail()))

    def end(self, run: str) -> dict[str, Any]:
        """Wait until a run has ended, and return it."""

        def has_ended() -> dict[str, Any] | None:
            found = self.run(run)
            return None if found["status"] in HELD else found

        return wait_until(has_ended, 30, "the run has not ended", lambda: (self.run(run), self.processes[-1].tail()))


class Minute(NamedTuple):
    """A job, and the minute in which its schedule fires."""

    job: str
    fires_at: datetime


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The server with a Redis of its own, which a test stops."""
    directory = tmp_path_factory.mktemp("shop")
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    shop = Shop(directory, redis, redis_broker(redis))
    try:
        shop.serve()
        yield shop
    finally:
        shop.client.close()
        for process in shop.processes:
            process.stop()
        redis.close()


@pytest.fixture(scope="module")
def worker(shop: Shop) -> Iterator[WorkerProcess]:
    """The worker with two processes."""
    worker = shop.worker()
    yield worker
    worker.teardown()


@pytest.fixture(scope="module")
def scheduled(shop: Shop, worker: WorkerProcess) -> Minute:
    """A job of a task that fires once, in the next minute: other tests run meanwhile."""
    fires_at = datetime.now(timezone.utc) + timedelta(seconds=70)
    cron = f"{fires_at.minute} {fires_at.hour} * * *"
    job = shop.job("add", cron=cron, cron_payload={"x": 20, "y": 22})
    return Minute(job, fires_at.replace(second=0, microsecond=0))


@pytest.mark.usefixtures("worker", "scheduled")
def test_outcomes_of_tasks_are_those_of_their_runs(shop: Shop) -> None:
    """A task that is triggered over HTTP would have no result, no error, or more attempts than Celery gave it."""
    add = shop.trigger(shop.job("add"), {"x": 2, "y": 3.5})
    fail = shop.trigger(shop.job("fail", max_attempts=2, retry_strategy="fixed"))
    positional = shop.job("retry_then_succeed", f"queue={shop.broker.queue}&args=1")
    retried = shop.trigger(positional, {"args": [2]}, priority=10)
    missing = shop.trigger(shop.job("no_such_task"))
    limited = shop.trigger(shop.job("sleep", timeout_secs=1), {"seconds": 60})

    done = shop.end(add)
    assert (done["status"], done["result"], done["attempt"]) == ("completed", 5.5, 1)
    assert done["created_at"] < done["started_at"] <= done["finished_at"]
    assert done["execution_trace"]["queue_wait_ms"] > 0
    failed = shop.end(fail)
    assert (failed["status"], failed["attempt"]) == ("dead_letter", 2)
    assert "on purpose" in failed["error"]
    again = shop.end(retried)
    assert (again["status"], again["result"], again["attempt"]) == ("completed", 3, 1), "Celery's own retries"
    unknown = shop.end(missing)
    assert (unknown["status"], unknown["attempt"]) == ("dead_letter", 1)
    assert "no_such_task" in unknown["error"]
    assert shop.end(limited)["status"] == "timed_out"


def test_a_task_that_waits_can_be_canceled_and_expires(shop: Shop, worker: WorkerProcess, tmp_path: Path) -> None:
    """A task that nobody wants any more, or that is too late, would run as soon as a worker is free."""
    release, ran = tmp_path / "release", tmp_path / "ran"
    hold, mark = shop.job("hold"), shop.job("mark", max_concurrency=0)
    full = [
        shop.trigger(hold, {"started": str(tmp_path / f"started-{n}"), "release": str(release)})
        for n in range(worker.concurrency)
    ]
    for run in full:
        shop.reaches(run, "executing")
    canceled = shop.trigger(mark, {"path": str(ran), "line": "canceled"})
    expiring = shop.trigger(mark, {"path": str(ran), "line": "expired"}, ttl_secs=1)
    for run in (canceled, expiring):
        shop.reaches(run, "dequeued")
    assert shop.client.delete(f"/runs/{canceled}").json()["status"] == "canceled"
    last = shop.trigger(mark, {"path": str(ran), "line": "last"})
    wait_until(lambda: shop.run(expiring)["expires_at"] < datetime.now(timezone.utc).isoformat(), 5, "it is too soon")
    release.touch()
    assert [shop.end(run)["status"] for run in (*full, last)] == ["completed"] * 3
    assert shop.end(expiring)["status"] == "expired"
    assert shop.run(canceled)["status"] == "canceled"
    assert ran.read_text() == "last\n"


@pytest.mark.usefixtures("worker")
def test_a_run_waits_for_a_broker_that_is_down_and_is_sent_once(shop: Shop, tmp_path: Path) -> None:
    """A restart of the broker would lose a task, fail it, or run it twice."""
    job = shop.job("mark")
    with shop.redis.away():
        runs = [shop.trigger(job, {"path": str(tmp_path / "ran"), "line": str(n)}) for n in range(3)]
        wait_until(lambda: "Runs wait for the broker" in shop.processes[-1].logs(), 20, "nothing was tried")
        for run in runs:
            shop.reaches(run, "queued")  # dequeued while it is tried
        wait_until(lambda: "waits for the broker" in shop.run(runs[0]).get("note", ""), 20, "nothing explains it")
    assert [shop.end(run)["status"] for run in runs] == ["completed"] * 3
    assert sorted((tmp_path / "ran").read_text().split()) == ["0", "1", "2"]


@pytest.mark.usefixtures("worker")
def test_a_task_goes_on_while_the_server_is_restarted(shop: Shop, tmp_path: Path) -> None:
    """A deployment of the server would lose the outcome of each task that runs meanwhile, or run it again."""
    release = tmp_path / "release"
    run = shop.trigger(shop.job("hold"), {"started": str(tmp_path / "started"), "release": str(release)})
    shop.reaches(run, "executing")
    shop.stop_server()
    release.touch()
    shop.serve()
    done = shop.end(run)
    assert (done["status"], done["result"]) == ("completed", True)


def test_a_sidecar_brings_the_outcome_and_without_one_the_run_has_the_reason(shop: Shop, tmp_path: Path) -> None:
    """A user whose workers have no agent would see a run that never ends, and nothing that explains it."""
    job = shop.job("add", "queue=plain")
    waiting = shop.trigger(job, {"x": 1, "y": 1})
    shop.reaches(waiting, "dequeued")
    wait_until(lambda: "is the agent installed" in shop.run(waiting)["note"], 10, "nothing explains it")
    env = {**shop.agent, "SLUICE_TEST_INSTALL": "0"}
    env.pop("SLUICE_CAPTURE_ARGS")
    sidecar = Sidecar(tmp_path, shop.broker, env)
    plain = WorkerProcess(tmp_path, shop.broker, env={"SLUICE_TEST_INSTALL": "0"}, args=["-Q", "plain", "-E"])
    try:
        done = shop.end(waiting)
        assert done["status"] == "completed"
        assert "result" not in done
        assert "SLUICE_CAPTURE_ARGS" in done["note"]
    finally:
        plain.teardown()
        sidecar.stop()


def test_the_task_of_a_killed_worker_ends_and_is_not_sent_again(shop: Shop, tmp_path: Path) -> None:
    """A run would stay `executing` for ever after a worker was killed, or its task run a second time."""
    victim = shop.worker(args=["-Q", "plain"], concurrency=1)
    started = tmp_path / "started"
    run = shop.trigger(
        shop.job("hold", "queue=plain", timeout_secs=600), {"started": str(started), "release": str(tmp_path / "never")}
    )
    shop.reaches(run, "executing")
    for process in [*psutil.Process(victim.pid).children(recursive=True), psutil.Process(victim.pid)]:
        process.kill()
    try:
        assert shop.end(run)["status"] == "crashed"
        assert shop.run(run)["attempt"] == 1
    finally:
        victim.teardown()


@pytest.mark.usefixtures("worker")
def test_a_task_runs_at_the_minute_of_its_schedule(shop: Shop, scheduled: Minute) -> None:
    """A nightly task that beat has sent until now would not run, run twice, or with other arguments."""

    def runs() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = shop.client.get("/runs", params={"job_id": scheduled.job, **SHOP}).json()
        return found

    wait_until(runs, 140, "the schedule has not fired", shop.processes[-1].tail)
    (run,) = runs()
    done = shop.end(run["id"])
    assert (done["status"], done["result"], done["triggered_by"]) == ("completed", 42, "cron")
    assert done["fire_at"] == time_text(to_moment(scheduled.fires_at))
    shown = shop.client.get(f"/jobs/{scheduled.job}/schedule").json()
    assert (shown["last_run_id"], shown["last_run_status"], shown["missed_count"]) == (run["id"], "completed", 0)


def test_tasks_are_followed_on_postgresql(new_postgresql: str) -> None:
    """A deployment with several servers would never know how its tasks end, or send them once more."""
    first = TaskJobs(new_postgresql)
    job = first.task_job(max_attempts=2, retry_strategy="fixed")
    runs = [first.run_of(job) for _ in range(3)]
    first.begin_task(runs[0])
    first.report(runs[1], "failed", error="no \x00 room")
    second = TaskJobs(new_postgresql)
    second.now = first.now
    second.report(runs[0], "completed", extensions={"result": "\x00\ud800"})
    second.work()
    assert [first.status(run) for run in runs] == ["completed", "queued", "dequeued"]
    second.pass_(2)
    second.work()
    assert len(second.broker.sent) == 1
    assert first.row(runs[1]).attempt == 2
    first.now = second.now
    first.tasks.take_over(first.store.moment)
    first.report(runs[1], "completed")
    first.work()
    assert [second.status(run) for run in runs] == ["completed", "completed", "dequeued"]
    assert len(first.broker.sent) == 3
    second.close()
    first.close()
