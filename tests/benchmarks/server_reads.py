"""What reading costs with many jobs: each list, filter, sort and search, a job, and the statistics.

The lists of a filter are those of every sort in both orders, of all connections and of one. A row has the wall time of
their requests, as a client on the same machine sees it, and the server's CPU time (that of PostgreSQL is not in it);
the slowest list is named.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg

from sluice_agent.server.queries.sorting import SortBy, SortOrder
from sluice_agent.server.store.database import Database
from sluice_agent.server.timestamps import timestamp_of
from tests.benchmarks.cpu import cpu_microseconds
from tests.benchmarks.filled_server import fill_database, filled_server
from tests.support.postgresql import PostgresqlServer, new_database
from tests.support.server_data import CONNECTIONS, NOW

_HOUR = 3_600_000_000
Parameters = Mapping[str, Any]

FILTERS: Mapping[str, Parameters] = {
    "all": {},
    "state failed": {"state": "failed"},
    "state completed": {"state": "completed"},
    "states failed, cancelled": {"state": "failed,cancelled"},
    "a queue": {"queue": "queue-03"},
    "two queues": {"queue": ["queue-03", "queue-04"]},
    "a worker": {"worker": "celery@worker-07"},
    "a frequent task": {"name": "shop.mail.task_000"},
    "a rare task": {"name": "shop.media.task_399"},
    "search, a fifth of all tasks": {"search": "MAIL"},
    "search, ten tasks": {"search": "task_39"},
    "search, no task": {"search": "absent"},
    "class of error": {"errorClass": "Error03"},
    "class and location": {"errorClass": "Error03", "errorLocation": "shop/tasks.py:3 in step_3"},
    "framework": {"framework": "celery"},
    "slow jobs": {"problem": "slow"},
    "overdue jobs": {"problem": "overdue"},
    "the last hour": {"from": timestamp_of(NOW - _HOUR)},
    "the last day": {"from": timestamp_of(NOW - 24 * _HOUR)},
    "a day of last week": {"from": timestamp_of(NOW - 120 * _HOUR), "to": timestamp_of(NOW - 96 * _HOUR)},
    "a queue, failed": {"queue": "queue-03", "state": "failed"},
    "a worker, active": {"worker": "celery@worker-07", "state": "active"},
    "a queue and a worker": {"queue": "queue-03", "worker": "celery@worker-07"},
    "search, failed": {"search": "MAIL", "state": "failed"},
    "a queue, the last day": {"queue": "queue-03", "from": timestamp_of(NOW - 24 * _HOUR)},
}


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of requests: the median, the 95th percentile and the slowest, which has a name; and CPU of a
    request in the server."""

    p50: float
    p95: float
    slowest: float
    slowest_name: str
    cpu: float

    def __str__(self) -> str:
        text = f"p50 {self.p50:5.1f}  p95 {self.p95:5.1f}  max {self.slowest:5.1f} ms, CPU {self.cpu:5.1f} ms"
        return f"{text}  {self.slowest_name}"


@contextmanager
def sqlite(jobs: int) -> Iterator[tuple[Database, list[str]]]:
    """Fill a file with `jobs` jobs; yield it, and the ids of some of them."""
    with tempfile.TemporaryDirectory() as directory:
        database = Path(directory) / "reads.db"
        yield database, fill_database(database, jobs)


@contextmanager
def postgresql(jobs: int) -> Iterator[tuple[Database, list[str]]]:
    """Fill a database of PostgreSQL in the same way. Its statistics are those that autovacuum makes within minutes."""
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(PostgresqlServer(Path(directory))) as server,
        new_database(server.port) as address,
    ):
        some = fill_database(address, jobs)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        yield address, some


STORES = {"SQLite": sqlite, "PostgreSQL": postgresql}


def rows(
    jobs: int = 1_000_000, repeats: int = 3, filters: Mapping[str, Parameters] = FILTERS, store: str = "SQLite"
) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each row of the table, with so many `jobs` in one of `STORES`."""
    for name, times in measurements(jobs, repeats, filters, store):
        yield f"{jobs:,} jobs in {store}: {name}", str(times)


def measurements(
    jobs: int, repeats: int, filters: Mapping[str, Parameters] = FILTERS, store: str = "SQLite"
) -> Iterator[tuple[str, Times]]:
    """Yield the name and the times of each group of requests."""
    with (
        STORES[store](jobs) as (database, some),
        filled_server(database) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        for name, requests in _groups(some, filters):
            yield name, _measure(client, server.pid, requests, repeats)


def _groups(
    some: list[str], filters: Mapping[str, Parameters]
) -> Iterator[tuple[str, dict[str, tuple[str, Parameters]]]]:
    """Yield groups of requests: for each request its name, path and parameters."""
    for name, parameters in filters.items():
        yield (
            name,
            {
                f"sortBy={by.value} {direction.value}{' connectionId' if connection else ''}": (
                    "/jobs",
                    {**parameters, **connection, "sortBy": by.value, "sortOrder": direction.value},
                )
                for by, direction, connection in itertools.product(
                    SortBy, SortOrder, ({}, {"connectionId": CONNECTIONS[0]})
                )
            },
        )
    yield "a job", {id_: (f"/jobs/{id_}", {}) for id_ in some}
    for path in ("queues", "tasks"):
        for time_range in ("1h", "6h", "24h", "36h", "7d", "30d"):
            yield f"{path}, {time_range}", {"": (f"/{path}", {"timeRange": time_range})}
    yield "workers", {"": ("/workers", {})}
    yield "health", {"": ("/health", {})}


def _measure(client: httpx.Client, pid: int, requests: Mapping[str, tuple[str, Parameters]], repeats: int) -> Times:
    times: list[tuple[float, str]] = []
    before = cpu_microseconds(pid)
    for _ in range(repeats):
        for name, (path, parameters) in requests.items():
            begin = time.perf_counter()
            client.get(path, params=parameters).raise_for_status()
            times.append((1_000 * (time.perf_counter() - begin), name))
    cpu = (cpu_microseconds(pid) - before) / 1_000 / len(times)
    times.sort()
    p95 = times[len(times) * 95 // 100][0]
    return Times(statistics.median(each for each, _ in times), p95, *times[-1], cpu)
