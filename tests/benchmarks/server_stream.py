"""What the stream costs the server: many readers, and some that never read."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from uuid import uuid4

import httpx
import psutil

from tests.benchmarks.served import Served, served

_BATCH_SECONDS = 0.1
_WARM_UP = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class Load:
    """`readers` of all events, `frozen` ones that never read, and events a second for some seconds."""

    readers: int = 500
    frozen: int = 0
    rate: int = 1_000
    seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Cost:
    """The server's CPU as a share of a core at the nominal rate, and its memory in bytes.

    `p50` and `p99` are milliseconds from an event's time to its arrival at a reader, `deliveries` is the share of
    frames that arrived, `gone_after` is when the last frozen reader was cut off, in seconds (None if one is left), and
    `batch_ms` is the longest that a batch took.
    """

    core: float
    memory: int
    p50: float
    p99: float
    deliveries: float
    gone_after: float | None
    batch_ms: float


def measure(load: Load) -> Cost:
    """Run a server, its readers and one client with `load`."""
    connection = str(uuid4())
    with tempfile.TemporaryDirectory() as directory, served(Path(directory) / "stream.db") as server:
        url = server.url
        stream = f"{url}/events/stream?connectionId={connection}"
        with httpx.Client() as client:
            _post(client, url, connection, 1)  # makes the connection
            with _readers(stream, load) as readers:
                _send(client, url, connection, load, _WARM_UP, server)
                before = server.cpu
                batch_ms, gone = _send(client, url, connection, load, load.seconds, server)
                core = (server.cpu - before) / load.seconds
                memory = psutil.Process(server.pid).memory_info().rss
                time.sleep(1)  # what is under way
                assert readers.stdin is not None
                assert readers.stdout is not None
                readers.stdin.write("\n")
                readers.stdin.flush()
                result = json.loads(readers.stdout.readline())
    delays = sorted(result["delays"]) or [0.0]
    sent = load.rate * (load.seconds + _WARM_UP) * load.readers
    p50, p99 = delays[len(delays) // 2], delays[len(delays) * 99 // 100]
    gone_after = None if gone is None else _WARM_UP + gone
    return Cost(core, memory, p50, p99, result["frames"] / sent if sent else 1.0, gone_after, batch_ms)


def rows(seconds: float = 20.0) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each row of the table."""
    for name, load in (
        ("1,000 events/s, no reader", Load(readers=0, seconds=seconds)),
        ("1,000 events/s, 500 readers", Load(seconds=seconds)),
        ("1,000 events/s, 500 readers, and 50 that never read", Load(frozen=50, seconds=seconds)),
    ):
        cost = measure(load)
        text = f"{cost.core:.1%} of a core, {cost.memory / 1e6:.0f} MB, slowest batch {cost.batch_ms:.0f} ms"
        if load.readers:
            text += f", delay p50 {cost.p50:.0f} p99 {cost.p99:.0f} ms, {cost.deliveries:.1%} delivered"
        if load.frozen:
            text += ", frozen ones " + (
                "are left" if cost.gone_after is None else f"gone after {cost.gone_after:.1f} s"
            )
        yield name, text


@contextmanager
def _readers(url: str, load: Load) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.benchmarks.stream_readers", url, str(load.readers), str(load.frozen)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def _send(
    client: httpx.Client, url: str, connection: str, load: Load, seconds: float, server: Served
) -> tuple[float, float | None]:
    """Send events; return the milliseconds of the slowest batch, and when the last frozen reader was gone."""
    start = time.monotonic()
    size = int(load.rate * _BATCH_SECONDS)
    slowest, gone_after = 0.0, None
    for index in range(int(seconds / _BATCH_SECONDS)):
        begin = time.monotonic()
        _post(client, url, connection, size)
        slowest = max(slowest, time.monotonic() - begin)
        if gone_after is None and _connections(server.pid) <= load.readers + 1:
            gone_after = time.monotonic() - start
        time.sleep(max(0.0, start + (index + 1) * _BATCH_SECONDS - time.monotonic()))
    return 1_000 * slowest, gone_after


def _connections(pid: int) -> int:
    return sum(one.status == psutil.CONN_ESTABLISHED for one in psutil.Process(pid).net_connections())


def _post(client: httpx.Client, url: str, connection: str, number: int) -> None:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    events = [
        {
            "type": "job_state_change",
            "timestamp": now,
            "framework": "celery",
            "connectionId": connection,
            "job": {"externalId": str(uuid4()), "name": "app.tasks.send_email", "queue": "default", "state": "queued"},
        }
        for _ in range(number)
    ]
    headers = {"Authorization": "Bearer sk_bench"}
    client.post(f"{url}/ingest", json={"events": events}, headers=headers).raise_for_status()


if __name__ == "__main__":
    for row in rows(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0):
        print(*row, sep=": ", flush=True)
