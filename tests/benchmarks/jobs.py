"""The jobs API: triggers a second, how soon a request follows, and runs a second, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.benchmarks.page import Section
from tests.benchmarks.percentiles import percentile
from tests.benchmarks.run_rows import fill
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tables import Table
from tests.benchmarks.workers import Progress
from tests.support.brokers import redis_broker
from tests.support.jobs_server import QUEUE
from tests.support.postgresql import PostgresqlServer
from tests.support.process import Process, free_port, listens
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

SLOTS = 20
_CLIENTS = 4
_BULK = 500
_PAUSE = 0.1  # seconds between two triggers whose delay is measured: the worker is idle
_HEADERS = {"Authorization": "Bearer sk_bench", "Content-Type": "application/json"}
_PARTS, _START_SECONDS, _ROW_SECONDS = 4, 20.0, 0.0002


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on one database: rates a second, and milliseconds from a trigger to its request."""

    singles: float
    bulks: float
    p50: float
    p99: float
    runs: float


def measure(sizes: Sizes, progress: Progress) -> Section:
    """Measure on both databases, empty and with many runs."""
    rows = []
    for name, figures in measurements(sizes):
        rows.append(_cells(name, figures))
        progress(" | ".join(rows[-1]))
    return Section(
        "The jobs API",
        [
            (
                f"Triggers by {_CLIENTS} clients, one by one and {_BULK} at a time, without a worker; the time from "
                f"a trigger until its request arrives, with an idle worker on Redis; and the runs of {SLOTS} gevent "
                "slots against an endpoint that answers at once. Clients, server, worker, broker, database and "
                "endpoint are on the same machine."
            )
        ],
        [Table(["database", "triggers/s", "in bulk/s", "to request p50 ms", "p99 ms", "runs/s"], rows)],
    )


def seconds(sizes: Sizes) -> float:
    """Return about how long it takes."""
    return 4 * (_START_SECONDS + _PARTS * _part_seconds(sizes)) + 2 * sizes.jobs * _ROW_SECONDS


def measurements(sizes: Sizes) -> Iterator[tuple[str, Figures]]:
    """Yield what was measured, with the name of the database."""
    part = _part_seconds(sizes)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for count in (0, sizes.jobs):
            note = f"{count:,} runs"
            yield f"SQLite, {note}", _figures(directory / f"sqlite-{count}", None, count, part)
            yield f"PostgreSQL, {note}", _on_postgresql(directory / f"postgresql-{count}", count, part)


def _part_seconds(sizes: Sizes) -> float:
    return min(sizes.seconds, 20.0)


def _cells(name: str, figures: Figures) -> list[str]:
    return [
        name,
        f"{figures.singles:,.0f}",
        f"{figures.bulks:,.0f}",
        f"{figures.p50:.0f}",
        f"{figures.p99:.0f}",
        f"{figures.runs:,.0f}",
    ]


def _on_postgresql(directory: Path, count: int, part: float) -> Figures:
    server = PostgresqlServer(directory, settings={})  # as it is set by default: commits are flushed
    try:
        return _figures(directory, server.url(), count, part)
    finally:
        server.close()


@dataclass
class _Installation:
    """The processes of one measurement."""

    directory: Path
    database: str
    port: int = field(default_factory=free_port)

    def start(self, stack: ExitStack) -> None:
        """Start the broker, the endpoint and the server."""
        redis = RedisServer(self.directory / "redis")
        stack.callback(redis.close)
        self.broker = replace(redis_broker(redis), backend="disabled")  # the results of attempts are in the database
        command = [sys.executable, "-m", "tests.benchmarks.black_hole"]
        self.black_hole = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(self.black_hole.terminate)
        assert self.black_hole.stdout is not None
        self.endpoint = int(self.black_hole.stdout.readline())
        command = [sys.executable, "-m", "sluice_agent", "serve", "--port", str(self.port), "--database", self.database]
        env = {**os.environ, "SLUICE_BROKER_URL": self.broker.url}
        server = Process(command, self.directory / "server.log", env)
        stack.callback(server.stop)
        wait_until(lambda: listens(self.port), 60, "no server", server.tail)

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Run a worker until the end of the block."""
        url = f"http://127.0.0.1:{self.port}/api"
        env = {"SLUICE_API_URL": url, "SLUICE_STATE_DIR": str(self.directory), "SLUICE_TEST_INSTALL": ""}
        args = ["-I", "sluice_agent.jobs.tasks", "-Q", QUEUE]
        worker = WorkerProcess(self.directory, self.broker, pool="gevent", concurrency=SLOTS, args=args, env=env)
        try:
            yield
        finally:
            worker.teardown()

    def job(self, slug: str, **settings: Any) -> str:
        """Make a job, and return its id."""
        body = {"project_id": "bench", "name": slug, "slug": slug, "endpoint_url": f"http://127.0.0.1:{self.endpoint}/"}
        return str(self.client().post("/v1/jobs", body | settings)["id"])

    def client(self) -> _Client:
        """Return a client of its own connection."""
        return _Client(self.port)

    def arrivals(self) -> dict[str, float]:
        """Return when each run has come to the endpoint since the last look."""
        return {run: float(at) for run, at in _Client(self.endpoint).get("/").items()}


class _Client:
    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, path: str, body: Any) -> Any:
        return self._request("POST", path, json.dumps(body))

    def get(self, path: str) -> Any:
        return self._request("GET", path, None)

    def _request(self, method: str, path: str, body: str | None) -> Any:
        self._connection.request(method, path, body, _HEADERS)
        response = self._connection.getresponse()
        content = response.read()
        if response.status not in (200, 201):
            raise RuntimeError(f"{path} answers {response.status}: {content.decode()}")
        return json.loads(content)


def _figures(directory: Path, database: str | None, count: int, part: float) -> Figures:
    directory.mkdir(exist_ok=True)
    address: Path | str = directory / "sluice.db" if database is None else database
    fill(address, count)
    with ExitStack() as stack:
        installation = _Installation(directory, str(address))
        installation.start(stack)
        singles, bulks = _triggers(installation, part)
        with installation.worker():
            delays = _delays(installation, part)
            runs = _rate(installation, part)
    return Figures(singles, bulks, percentile(delays, 50) * 1000, percentile(delays, 99) * 1000, runs)


def _triggers(installation: _Installation, part: float) -> tuple[float, float]:
    """Return the runs that clients trigger a second, one by one and in bulk. None of them is due."""
    job = installation.job("triggers")
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400))
    item = {"scheduled_at": later, "payload": {"order": 1}}
    single = _at_once(installation, part, f"/v1/jobs/{job}/trigger", item, 1)
    return single, _at_once(installation, part, f"/v1/jobs/{job}/trigger/bulk", {"items": [item] * _BULK}, _BULK)


def _at_once(installation: _Installation, part: float, path: str, body: Any, size: int) -> float:
    """Return the runs a second of clients that send the same request again and again."""
    counts = [0] * _CLIENTS
    start = time.perf_counter()

    def send(number: int) -> None:
        client = installation.client()
        while time.perf_counter() - start < part:
            client.post(path, body)
            counts[number] += size

    threads = [threading.Thread(target=send, args=(number,)) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def _delays(installation: _Installation, part: float) -> list[float]:
    """Return the seconds from each trigger to its request, while nothing else is under way."""
    job, client = installation.job("delays"), installation.client()
    first = client.post(f"/v1/jobs/{job}/trigger", {"payload": {"order": 1}})["id"]
    wait_until(lambda: first in installation.arrivals(), 60, "no request")  # connections are open, the worker is known
    begun: dict[str, float] = {}
    end = time.perf_counter() + part
    while time.perf_counter() < end:
        moment = time.time()
        begun[client.post(f"/v1/jobs/{job}/trigger", {"payload": {"order": 1}})["id"]] = moment
        time.sleep(_PAUSE)
    arrivals: dict[str, float] = {}
    wait_until(lambda: arrivals.update(installation.arrivals()) or begun.keys() <= arrivals.keys(), 60, "requests lack")
    return [arrivals[run] - moment for run, moment in begun.items()]


def _rate(installation: _Installation, part: float) -> float:
    """Return the runs a second of a backlog, without its beginning."""
    job, client = installation.job("rate"), installation.client()
    for _ in range(max(1, round(part * SLOTS * SLOTS / _BULK))):
        client.post(f"/v1/jobs/{job}/trigger/bulk", {"items": [{"payload": {"order": 1}}] * _BULK})
    installation.arrivals()
    time.sleep(part)
    times = sorted(installation.arrivals().values())
    late = [at for at in times if at > times[0] + 1.0]
    return (len(late) - 1) / (late[-1] - late[0])
