"""What the server takes of events: how many, at what cost, and how it answers others meanwhile."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.benchmarks import yardstick
from tests.benchmarks.served import Served, served
from tests.benchmarks.yardstick import Speed

CONNECTION = "550e8400-e29b-41d4-a716-446655440000"
BATCH = 500
_STATES = ("queued", "active", "completed")
_JOB_MARK, _TIME_MARK = b"@@@@@@@@", b"2001-01-01T00:00"
_HEADERS = {"Authorization": "Bearer sk_bench", "Content-Type": "application/json"}
_HEALTH_INTERVAL = 0.05  # seconds
_EDGE = 10.0  # seconds at the beginning and at the end whose rates are compared


@dataclass(frozen=True, slots=True)
class Cost:
    """Of events that were sent: their rates a second, CPU in µs and bytes of the database for each; of requests the
    milliseconds; and the server's largest memory in bytes."""

    rate: float
    first_rate: float
    last_rate: float
    cpu: float
    size: float
    p50: float
    p99: float
    health: float
    memory: int
    speed: Speed
    """The machine's, before and after."""

    def __str__(self) -> str:
        rates = f"{self.rate:,.0f} events/s (first {self.first_rate:,.0f}, last {self.last_rate:,.0f})"
        waits = f"p50 {self.p50:.0f} p99 {self.p99:.0f} ms, health at most {self.health:.0f} ms"
        return f"{rates}, {self.cpu:.1f} µs of CPU and {self.size:.0f} B each, {waits}, {self.memory / 1e6:.0f} MB"


class Batches:
    """Bodies of requests: one job's three events are in three batches. `size` is that of a batch."""

    def __init__(self, size: int = BATCH) -> None:
        jobs = [(f"{_JOB_MARK.decode()}{str(uuid4())[8:]}", number) for number in range(size)]
        self._templates = [
            json.dumps({"events": [_event(job, number, index) for job, number in jobs]}).encode()
            for index in range(len(_STATES))
        ]
        self._start = datetime.now(timezone.utc)

    def body(self, client: int, number: int) -> bytes:
        """Return the body of a client's batch."""
        group, index = divmod(number, len(_STATES))
        minute = self._start + timedelta(minutes=group // 50)
        template = self._templates[index].replace(_JOB_MARK, f"{client:02x}{group:06x}".encode())
        return template.replace(_TIME_MARK, minute.strftime("%Y-%m-%dT%H:%M").encode())


def _event(job: str, number: int, index: int) -> dict[str, Any]:
    """Return an event of 600 bytes, as an agent sends it."""
    times = [f"2001-01-01T00:00:{number % 50 + delay:06.3f}Z" for delay in (0, 1, 3)]
    fields: dict[str, Any] = {
        "externalId": job,
        "name": f"app.tasks.task_{number % 40}",
        "queue": f"queue-{number % 5}",
        "state": "failed" if index == len(_STATES) - 1 and number % 50 == 0 else _STATES[index],
        "attempt": 1,
        "maxRetries": 3,
        "createdAt": times[0],
    }
    extensions: dict[str, Any] = {"eventId": f"{job}-{index}", "rootId": job, "celeryState": _STATES[index].upper()}
    if index == 0:
        extensions |= {"args": "[1, 2, 3]", "kwargs": "{'user': 1}", "routingKey": "default", "hostname": "web-1"}
    else:
        fields |= {"previousState": _STATES[index - 1], "startedAt": times[1], "workerId": f"celery@w{number % 8}"}
    if index == len(_STATES) - 1:
        fields["completedAt"] = times[2]
        extensions |= {"runtime": 2.0, "result": "None"}
        fields |= {"error": "ValueError: no such user"} if fields["state"] == "failed" else {}
    common = {"type": "job_state_change", "timestamp": times[index], "framework": "celery", "connectionId": CONNECTION}
    return {**common, "job": {**fields, "extensions": extensions}}


@dataclass
class _Client:
    """A client in a thread, that sends one batch after the other until a time."""

    number: int
    batches: Batches
    ends: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def run(self, server: Served, until: float) -> None:
        connection = HTTPConnection(*server.address, timeout=60)
        while time.monotonic() < until:
            body = self.batches.body(self.number, len(self.ends))
            start = time.monotonic()
            while (answer := _post(connection, body)) is None:
                time.sleep(0.1)  # the queue was full
            assert answer["accepted"] == BATCH, answer
            self.ends.append(time.monotonic())
            self.waits.append(self.ends[-1] - start)


def _post(connection: HTTPConnection, body: bytes) -> dict[str, Any] | None:
    connection.request("POST", "/api/ingest", body, _HEADERS)
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    return None if response.status == 503 else answer


def _health_waits(server: Served, until: float) -> list[float]:
    """Ask for the health at intervals, and return how long each answer took."""
    connection = HTTPConnection(*server.address, timeout=60)
    waits: list[float] = []
    while time.monotonic() < until:
        start = time.monotonic()
        connection.request("GET", "/api/health")
        assert connection.getresponse().read()
        waits.append(time.monotonic() - start)
        time.sleep(_HEALTH_INTERVAL)
    return waits


def measure(
    clients: int, seconds: float, database: str | None = None, size_of: Callable[[], int] | None = None
) -> Cost:
    """Send batches for some seconds; without `database` to a new SQLite file. `size_of` returns its bytes."""
    speed = yardstick.measure()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "ingest.db"
        with served(database or file) as server:
            batches = Batches()
            senders = [_Client(number, batches) for number in range(clients)]
            start, cpu = time.monotonic(), server.cpu
            until = start + seconds
            threads = [threading.Thread(target=sender.run, args=(server, until)) for sender in senders]
            for thread in threads:
                thread.start()
            health = _health_waits(server, until)
            for thread in threads:
                thread.join()
            cpu, memory = server.cpu - cpu, server.peak_memory
        ends = sorted(end - start for sender in senders for end in sender.ends)
        size = size_of() if size_of else file.stat().st_size
    waits = sorted(wait for sender in senders for wait in sender.waits)
    events = BATCH * len(ends)
    edge = min(_EDGE, seconds / 3)
    return Cost(
        rate=events / ends[-1],
        first_rate=BATCH * sum(end < edge for end in ends) / edge,
        last_rate=BATCH * sum(seconds - edge <= end < seconds for end in ends) / edge,
        cpu=cpu / events * 1e6,
        size=size / events,
        p50=waits[len(waits) // 2] * 1e3,
        p99=waits[len(waits) * 99 // 100] * 1e3,
        health=max(health) * 1e3,
        memory=memory,
        speed=speed + yardstick.measure(),
    )


def measure_progress(events: int, size: int = 100) -> tuple[float, float]:
    """Send the progress of one job; return the µs of CPU of an event in the first tenth of the batches and the last."""
    with tempfile.TemporaryDirectory() as directory, served(Path(directory) / "progress.db") as server:
        connection = HTTPConnection(*server.address, timeout=60)
        start = datetime.now(timezone.utc)
        costs: list[float] = []
        for first in range(0, events, size):
            body = {"events": [_progress(start, number, events) for number in range(first, min(first + size, events))]}
            cpu = server.cpu
            answer = _post(connection, json.dumps(body).encode())
            assert answer is not None
            assert answer["accepted"] == len(body["events"]), answer
            costs.append((server.cpu - cpu) / len(body["events"]) * 1e6)
    tenth = max(1, len(costs) // 10)
    costs_of_first, costs_of_last = sorted(costs[1 : tenth + 1] or costs), sorted(costs[-tenth:])
    return costs_of_first[len(costs_of_first) // 2], costs_of_last[tenth // 2]


def _progress(start: datetime, number: int, events: int) -> dict[str, Any]:
    time_text = (start + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {"externalId": "job", "name": "app.tasks.export", "state": "active", "attempt": 1, "workerId": "w"}
    job = {**fields, "startedAt": start.strftime("%Y-%m-%dT%H:%M:%SZ"), "progress": number / events}
    common = {"type": "job_state_change", "framework": "celery", "connectionId": CONNECTION}
    return {**common, "timestamp": time_text, "job": job}


def rows_of(name: str, clients: int, cost: Cost) -> Iterator[tuple[str, str]]:
    """Yield the row of a cost, and that of the machine's speed meanwhile."""
    yield f"{name}, {clients} client{'s' if clients > 1 else ''}, {BATCH} a batch", str(cost)
    yield yardstick.row(cost.speed, cost.rate)


def rows(seconds: float = 60.0, progress: int = 10_000, database: str | None = None) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each row of the table."""
    for clients in (1, 50):
        yield from rows_of("ingest", clients, measure(clients, seconds, database))
    before = yardstick.measure()
    first, last = measure_progress(progress)
    yield f"{progress:,} reports of progress of one job", f"{first:.0f} µs of CPU each at first, {last:.0f} at last"
    yield yardstick.row(before + yardstick.measure())
