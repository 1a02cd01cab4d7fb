"""The jobs API while its parts are killed: workers, servers with their engines, broker and database.

Every run ends; an attempt sends one request, and one to the fallback; a run has no more attempts than its job allows;
and after an answer that the server has, none is sent.
"""

from __future__ import annotations

import random
import signal
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.conftest import IS_LONG
from tests.support.brokers import Broker, redis_broker
from tests.support.counting_endpoint import Answer, CountingEndpoint, counting
from tests.support.jobs_server import QUEUE
from tests.support.local_sluice import ANY_KEY
from tests.support.postgresql import PostgresqlServer
from tests.support.process import Process, free_port, listens
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

pytestmark = pytest.mark.long

RUNS, WORKERS, SERVERS = (2_000, 20, 2) if IS_LONG else (40, 2, 2)
AWAY = 120.0 if IS_LONG else 6.0
"""Seconds for which the server is away."""

SILENCE = 4.0
"""Seconds after which an attempt is lost, of which nothing was heard: eight signs of life."""

MOST = 5
"""Attempts of a run."""

GOES_ON = ("queued", "dequeued", "executing", "delayed", "waiting")


class Installation:
    """Servers over one database, workers, and an endpoint, each in processes of its own but for the last."""

    def __init__(self, directory: Path, endpoint: CountingEndpoint) -> None:
        self.directory = directory
        self.endpoint = endpoint
        self.redis = RedisServer(directory / "redis")
        self.postgresql = PostgresqlServer(directory / "postgresql")
        self.broker: Broker = redis_broker(self.redis)
        self.ports = [free_port() for _ in range(SERVERS)]
        self.client = httpx.Client(headers=ANY_KEY, timeout=10, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self.servers: list[Process] = []
        for number in range(SERVERS):
            self.servers.append(self._serve(number))
            wait_until(lambda: listens(self.ports[number]), 30, "no server", self.servers[number].tail)  # noqa: B023
        self.workers = [self._work(number) for number in range(WORKERS)]
        for worker in self.workers:
            worker.ready()

    def close(self) -> None:
        """End all processes."""
        self.client.close()
        for worker in self.workers:
            worker.teardown()
        for server in self.servers:
            server.stop()
        self.postgresql.close()
        self.redis.close()

    def kill_server(self, number: int, away: float) -> None:
        """Kill a server, and start it again later."""
        self.servers[number].stop()
        time.sleep(away)
        self.servers[number] = self._serve(number)

    def kill_worker(self, worker: WorkerProcess) -> None:
        """Kill a worker, and start it again."""
        worker.kill()
        worker.start_again()

    def send(self, method: str, path: str, body: Any = None, **parameters: Any) -> Any:
        """Send a request to the first server that answers, and return the body."""
        for attempt in range(60):
            port = self.ports[attempt % SERVERS]
            try:
                url = f"http://127.0.0.1:{port}/v1{path}"
                answer = self.client.request(method, url, json=body, params=parameters)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code < 500:
                assert answer.status_code < 400, answer.text
                return answer.json()
            time.sleep(0.5)
        pytest.fail("no server answers")

    def pause_servers(self) -> Callable[[], None]:
        """Stop both servers, and return what lets them go on."""
        return _paused(*self.servers)

    def pause_workers(self) -> Callable[[], None]:
        """Stop all workers, and return what lets them go on."""
        return _paused(*(worker.process for worker in self.workers))

    def worker_with(self, run: str) -> WorkerProcess | None:
        """Return the worker that has a message of a run; None if there is none."""
        return next((worker for worker in self.workers if f"[{run}] received" in worker.logs()), None)

    def outcomes(self) -> list[Path]:
        """Return the outcomes that wait for a server."""
        return list(self.directory.glob("state/outcomes-*/*.outcome"))

    def make_job(self, path: str = "/main", **settings: Any) -> str:
        """Make a job whose endpoint is at `path`, and return its id."""
        job = {"project_id": "shop", "name": "Mail", "slug": f"mail-{random.random()}"}
        retries = {"max_attempts": MOST, "retry_strategy": "fixed"}  # after a second each
        urls = {"endpoint_url": f"{self.endpoint.url}{path}", "fallback_endpoint_url": f"{self.endpoint.url}/fallback"}
        return str(self.send("POST", "/jobs", {**job, **retries, **urls, **settings})["id"])

    def trigger(self, job: str, count: int) -> list[str]:
        """Trigger runs of a job, and return their ids."""
        made = []
        for start in range(0, count, 500):
            items = [{"payload": {"number": number}} for number in range(start, min(start + 500, count))]
            made += self.send("POST", f"/jobs/{job}/trigger/bulk", {"items": items})["results"]
        return [run["id"] for run in made]

    def wait_for_requests(self, runs: list[str]) -> None:
        """Wait until the first of these runs is executed."""
        sent = self.endpoint.requests
        wait_until(lambda: any(run in sent for run in runs), 60, "no requests come", self.servers[0].tail)

    def wait_for_status(self, run: str, status: str) -> None:
        """Wait until a run has a status."""
        wait_until(lambda: self.send("GET", f"/runs/{run}")["status"] == status, 60, f"the run is not {status}")

    def runs(self, job: str) -> list[dict[str, Any]]:
        """Return all runs of a job."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.send("GET", "/runs", project_id="shop", job_id=job, limit=100, envelope=True, **cursor)
            found += page["data"]
            if not page["has_more"]:
                return found
            cursor = {"cursor": page["next_cursor"]}

    def wait_for_ends(self, job: str, seconds: float) -> list[dict[str, Any]]:
        """Wait until all runs of a job have ended, and return them."""

        of_job = {"project_id": "shop", "job_id": job}

        def have_ended() -> bool:
            if any(self.send("GET", "/runs", **of_job, status=status, limit=1) for status in GOES_ON):
                return False
            return all("finished_at" in run for run in self.runs(job))  # one may have moved between two looks

        def states() -> str:
            ends = Counter(run["status"] for run in self.runs(job))
            return "\n".join([f"{ends}", *(server.tail() for server in self.servers)])

        wait_until(have_ended, seconds, "runs have not ended", states)
        return self.runs(job)

    def _serve(self, number: int) -> Process:
        arguments = [str(self.ports[number]), self.postgresql.url(), self.broker.url, str(SILENCE)]
        command = [sys.executable, "-m", "tests.support.jobs_serve", *arguments]
        return Process(command, self.directory / f"server-{number}.log")

    def _work(self, number: int) -> WorkerProcess:
        return WorkerProcess(
            self.directory,
            self.broker,
            pool="threads",
            concurrency=10,
            args=["-I", "tests.support.quick_beats,sluice_agent.jobs.tasks", "-Q", QUEUE],
            env={
                "SLUICE_API_URL": f"http://127.0.0.1:{self.ports[number % SERVERS]}/api",
                "SLUICE_STATE_DIR": str(self.directory / "state"),
                "SLUICE_TEST_INSTALL": "",
            },
            wait=False,
        )


def _paused(*processes: Process) -> Callable[[], None]:
    for process in processes:
        process.send(signal.SIGSTOP)

    def go_on() -> None:
        for process in processes:
            process.send(signal.SIGCONT)

    return go_on


def unreliable(run: str, attempt: int, path: str) -> Answer:
    """Answer as an endpoint does that is not well: the same to the same request, whoever sends it.

    One at `/slow/SECONDS` takes so long for first attempts, and one at `/steady` is well.
    """
    if path.startswith("/slow/"):
        return 200, float(path.removeprefix("/slow/")) if attempt == 1 else 0
    if path == "/steady":
        return 200, 0.02
    chance = random.Random(f"{run} {attempt} {path}")
    status = chance.choices((200, 500, 429, 0), (6, 2, 1, 1))[0]
    return status, chance.uniform(0, 0.4)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("installation")
    (directory / "state").mkdir(mode=0o700)
    with counting(unreliable) as endpoint:
        installation = Installation(directory, endpoint)
        yield installation
        installation.close()


def check_requests(installation: Installation, runs: list[dict[str, Any]]) -> None:
    """Check what the endpoint has counted against the ends of runs."""
    for run in runs:
        sent = installation.endpoint.requests.get(run["id"], [])
        times = Counter((request.attempt, request.path) for request in sent)
        assert max(times.values(), default=0) <= 1, f"an attempt of {run} was sent twice: {sent}"
        assert len({request.attempt for request in sent}) <= MOST
        end = datetime.fromisoformat(run["finished_at"]).timestamp()
        late = [request for request in sent if request.at > end]
        assert not late, f"{run} was sent after its end: {late}"


def test_every_run_ends_whatever_is_killed(installation: Installation) -> None:
    """An invoice would never be sent, or twice by one attempt, or again after it was paid."""
    job = installation.make_job()
    chaos: list[Callable[[], None]] = [
        lambda: installation.kill_worker(installation.workers[0]),
        lambda: installation.kill_server(0, 1),
        installation.redis.restart,
        lambda: installation.kill_worker(installation.workers[-1]),
        installation.postgresql.restart,
        lambda: installation.kill_server(1, 1),
    ]
    rounds = len(chaos) * (5 if IS_LONG else 1)
    for number in range(rounds):
        runs = installation.trigger(job, RUNS * (number + 1) // rounds - RUNS * number // rounds)
        installation.wait_for_requests(runs)
        chaos[number % len(chaos)]()
    found = installation.wait_for_ends(job, 900 if IS_LONG else 120)
    assert len(found) == RUNS
    check_requests(installation, found)
    assert Counter(run["status"] for run in found)["completed"] > RUNS / 2


def test_a_limit_holds_while_another_server_takes_over(installation: Installation) -> None:
    """A job that may run once at a time would run twice, as its server is being updated."""
    count = RUNS if IS_LONG else 30
    job = installation.make_job("/steady", max_concurrency=1)
    runs = installation.trigger(job, count)
    installation.wait_for_requests(runs)
    for number in range(SERVERS):
        installation.kill_server(number, 1)
    found = installation.wait_for_ends(job, 900 if IS_LONG else 120)
    check_requests(installation, found)
    assert [run["status"] for run in found] == ["completed"] * count
    assert installation.endpoint.at_once[job] == 1


def test_a_server_is_killed_between_its_commit_and_its_message(installation: Installation) -> None:
    """A run would stay claimed for ever, though nobody has a message of it."""
    job = installation.make_job("/steady")
    installation.redis.kill(signal.SIGSTOP)
    (run,) = installation.trigger(job, 1)
    installation.wait_for_status(run, "dequeued")
    for number in range(SERVERS):
        installation.kill_server(number, 0)
    installation.redis.kill(signal.SIGCONT)
    check_requests(installation, installation.wait_for_ends(job, 60))
    assert [sent.attempt for sent in installation.endpoint.requests[run]] == [1]


def test_a_worker_is_killed_before_its_request(installation: Installation) -> None:
    """A run would wait for ever for a worker that had just taken its message."""
    job = installation.make_job("/steady")
    let_workers = installation.pause_workers()
    (run,) = installation.trigger(job, 1)
    installation.wait_for_status(run, "dequeued")
    let_servers = installation.pause_servers()
    let_workers()
    worker = wait_until(lambda: installation.worker_with(run), 60, "no worker has the message")
    worker.kill()
    let_servers()
    worker.start_again()
    check_requests(installation, installation.wait_for_ends(job, 60))
    assert len(installation.endpoint.requests[run]) == 1


def test_a_worker_is_killed_during_its_request(installation: Installation) -> None:
    """A run would be executing for ever, or its request be taken for a success."""
    job = installation.make_job("/slow/10")
    (run,) = installation.trigger(job, 1)
    installation.wait_for_requests([run])
    worker = installation.worker_with(run)
    assert worker is not None
    installation.kill_worker(worker)
    check_requests(installation, installation.wait_for_ends(job, 60))
    assert [sent.attempt for sent in installation.endpoint.requests[run]] == [1, 2]


def test_a_worker_is_killed_after_its_request(installation: Installation) -> None:
    """A payment that has succeeded would be made again, as its worker was killed before the server knew it."""
    job = installation.make_job("/slow/2")
    (run,) = installation.trigger(job, 1)
    installation.wait_for_requests([run])
    let_servers = installation.pause_servers()
    worker = installation.worker_with(run)
    assert worker is not None
    wait_until(installation.outcomes, 30, "the outcome is not stored", worker.tail)
    worker.kill()
    let_servers()
    worker.start_again()
    (found,) = installation.wait_for_ends(job, 60)
    check_requests(installation, [found])
    assert (found["status"], found["attempt"]) == ("completed", 1)
    assert len(installation.endpoint.requests[run]) == 1


def test_an_answer_is_the_last_request_though_the_servers_are_away(installation: Installation) -> None:
    """A payment that has succeeded would be made again, as the server was being updated when it ended."""
    count = RUNS // 4
    job = installation.make_job()
    triggered = installation.trigger(job, count)
    sent_of = installation.endpoint.requests
    wait_until(lambda: sum(run in sent_of for run in triggered) > count // 6, 60, "no requests come")
    threads = [threading.Thread(target=installation.kill_server, args=(number, AWAY)) for number in range(SERVERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = installation.wait_for_ends(job, 300 if IS_LONG else 120)
    assert len(runs) == count
    check_requests(installation, runs)
    for run in runs:
        sent = sent_of[run["id"]]
        successes = [number for number, request in enumerate(sent) if request.status == 200]
        assert successes in ([], [len(sent) - 1]), f"{run} was sent again after its answer: {sent}"
