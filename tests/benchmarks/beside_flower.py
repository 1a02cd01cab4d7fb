"""The server beside Flower: both receive the events of the same tasks at the same time, and then show them.

Celery's own dispatcher publishes the events on Redis. Flower receives them as its documentation sets it up, and so does
our sidecar, `sluice-agent monitor`, which ships them to `sluice-agent serve`. Parts of the events are published once
both have received those before: Redis drops what a monitor that is too slow has not read.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from playwright.sync_api import Browser

from tests.benchmarks import flower
from tests.benchmarks.cpu import tree
from tests.benchmarks.dispatch import EVENTS_A_TASK, dispatch
from tests.benchmarks.flower import Flower
from tests.benchmarks.memory import peak_bytes
from tests.benchmarks.page import Section
from tests.benchmarks.served import Served, served
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tables import Table
from tests.benchmarks.workers import Progress
from tests.support.chromium import chromium, session
from tests.support.process import ROOT, Process
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until

_TASKS_AT_A_TIME = 5_000
_VISITS = 5  # of each page, after the first one
_START_TIMEOUT = 120.0  # seconds
_ARRIVAL_TIMEOUT = 600.0  # seconds without a further event: no more will arrive
_PAGE_TIMEOUT = 300_000  # milliseconds
_POLL_SECONDS = 0.2
_TASK_SECONDS, _START_SECONDS = 0.0016, 60.0


@dataclass(frozen=True, slots=True)
class Shown:
    """Seconds from the address to the content in the browser: at the first visit, and at those after it."""

    first: float
    others: Sequence[float]

    def __str__(self) -> str:
        return f"{self.first:.2f}, then {statistics.median(self.others):.2f}"


@dataclass(frozen=True, slots=True)
class Kept:
    """What one of both has after all events: its tasks, the memory of its processes in bytes, and its pages."""

    tasks: int
    memory: int
    peak: int
    start: float
    """Seconds from its command to its first answer, while it has no task."""
    front: Shown
    tasks_page: Shown

    def row(self, name: str) -> list[str]:
        """Return the row of the table."""
        figures = [f"{self.tasks:,}", f"{self.memory / 1e6:.0f}", f"{self.peak / 1e6:.0f}", f"{self.start:.1f}"]
        return [name, *figures, str(self.front), str(self.tasks_page)]


@dataclass(frozen=True, slots=True)
class _Watched:
    """One of both: its processes, how many tasks it has, and its pages with what must be visible in them."""

    name: str
    pids: Sequence[int]
    tasks: Callable[[], int]
    start: float
    front: tuple[str, str]
    tasks_page: tuple[str, str]


def measure(sizes: Sizes, progress: Progress) -> Section:
    """Feed both, and visit their pages; leave the section out without Flower."""
    title = "The server beside Flower"
    if not flower.IS_INSTALLED:
        return Section(title, ["Left out: Flower is not installed. `make bench` installs it."])
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        redis = RedisServer(directory / "redis")
        try:
            with _flower(directory, redis.url(), sizes.flower_tasks) as theirs, _ours(directory, redis.url()) as ours:
                seconds = _feed(redis.url(), sizes.flower_tasks, (theirs, ours), progress)
                with chromium() as browser:
                    rows = [_kept(watched, browser).row(watched.name) for watched in (theirs, ours)]
        finally:
            redis.close()
        size = sum(path.stat().st_size for path in directory.glob("sluice.db*"))
    for row in rows:
        progress("  ".join(row))
    return Section(
        title,
        [
            (
                f"Celery's own dispatcher publishes the {sizes.flower_tasks * EVENTS_A_TASK:,} events of "
                f"{sizes.flower_tasks:,} tasks on Redis, as fast as both take them ({seconds:,.0f} s). Flower receives "
                f"them with its documented set-up, and `--max-tasks={sizes.flower_tasks}` so that it keeps them all; "
                "`sluice-agent monitor` receives the same, and ships them to `sluice-agent serve`, which stores them "
                f"in SQLite ({size / 1e6:,.0f} MB). Memory is that of all processes of a row when all is received."
            ),
            (
                "A page is visited in Chromium, and takes until its content is visible: the workers in Flower and "
                "*Now* in ours, and the first rows of the list of all tasks. The first visit is apart, of the "
                f"{_VISITS} after it there is the median. The start is the time from the command to the first "
                "answer, while there is no task."
            ),
        ],
        [
            Table(
                ["", "tasks", "MB", "peak MB", "start, s", "first page, s", "list of tasks, s"],
                rows,
            )
        ],
    )


def seconds(sizes: Sizes) -> float:
    """Return about how long it takes."""
    return _START_SECONDS + sizes.flower_tasks * _TASK_SECONDS


@contextmanager
def _flower(directory: Path, broker: str, tasks: int) -> Iterator[_Watched]:
    own = directory / "flower"
    own.mkdir()
    started = time.perf_counter()
    running = Flower(own, broker, f"--max-tasks={tasks}")
    try:
        _wait_for_answer(running.url, running.process)
        yield _Watched(
            "Flower",
            [running.process.pid],
            lambda: running.task_events() // EVENTS_A_TASK,
            time.perf_counter() - started,
            (f"{running.url}/", "#workers-table tbody td"),
            (f"{running.url}/tasks", "#tasks-table tbody a"),
        )
    finally:
        running.process.stop(10)


@contextmanager
def _ours(directory: Path, broker: str) -> Iterator[_Watched]:
    started = time.perf_counter()
    with served(directory / "sluice.db") as server, httpx.Client(timeout=60) as client:
        url = server.url.removesuffix("/api")
        client.get(f"{url}/").raise_for_status()
        start = time.perf_counter() - started
        connection = str(uuid.uuid4())
        sidecar = _sidecar(directory / "sidecar", broker, server, connection)

        def tasks() -> int:
            query = {"connectionId": connection, "state": "completed", "limit": 1}
            answer = client.get(f"{server.url}/jobs", params=query).raise_for_status()
            return int(answer.json()["pagination"]["total"])

        try:
            yield _Watched(
                "sluice-agent, serve and monitor",
                [server.pid, sidecar.pid],
                tasks,
                start,
                (f"{url}/", "main h1"),
                (f"{url}/jobs", "tr[data-key]"),
            )
        finally:
            sidecar.stop(10)


def _sidecar(directory: Path, broker: str, server: Served, connection: str) -> Process:
    """Return a sidecar that listens."""
    directory.mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")},
        "SLUICE_API_KEY": "sk_bench",
        "SLUICE_API_URL": server.url,
        "SLUICE_BROKER_URL": broker,
        "SLUICE_CONNECTION_ID": connection,
        "SLUICE_STATE_DIR": str(directory),
    }
    process = Process([sys.executable, "-m", "sluice_agent", "monitor"], directory / "log", environment, ROOT)
    wait_until(lambda: "Listening to the events" in process.logs(), _START_TIMEOUT, "no sidecar", process.tail)
    return process


def _wait_for_answer(url: str, process: Process) -> None:
    def answers() -> bool:
        return httpx.get(f"{url}/", timeout=30).is_success

    wait_until(answers, _START_TIMEOUT, "Flower does not answer", process.tail)


def _feed(broker: str, tasks: int, both: Sequence[_Watched], progress: Progress) -> float:
    """Publish the events of all tasks, and wait for them; return the seconds."""
    started = time.perf_counter()
    for published in range(0, tasks, _TASKS_AT_A_TIME):
        number = min(_TASKS_AT_A_TIME, tasks - published)
        dispatch(broker, number)
        counts = arrived([watched.tasks for watched in both], published + number)
        if (published + number) % (20 * _TASKS_AT_A_TIME) == 0:
            names = ", ".join(f"{watched.name} {count:,}" for watched, count in zip(both, counts, strict=True))
            progress(f"{published + number:,} tasks published; {names}")
    return time.perf_counter() - started


def arrived(counters: Sequence[Callable[[], int]], expected: int, patience: float = _ARRIVAL_TIMEOUT) -> list[int]:
    """Return what each counter says once all say `expected`, or none has changed for `patience` seconds."""
    counts: list[int] = []
    changed_at = time.monotonic()
    while time.monotonic() - changed_at < patience:
        now = [count() for count in counters]
        if now != counts:
            counts, changed_at = now, time.monotonic()
        if min(counts) >= expected:
            break
        time.sleep(_POLL_SECONDS)
    return counts


def _kept(watched: _Watched, browser: Browser) -> Kept:
    """Return what it has, its memory before its pages are visited, and how long these take."""
    processes = [process for pid in watched.pids for process in tree(pid)]
    memory = sum(process.memory_info().rss for process in processes)
    peak = sum(peak_bytes(process.pid) for process in processes)
    front, tasks_page = (_visit(browser, *page) for page in (watched.front, watched.tasks_page))
    return Kept(watched.tasks(), memory, peak, watched.start, front, tasks_page)


def _visit(browser: Browser, url: str, content: str) -> Shown:
    """Return how long a page takes until `content`, a selector, is visible."""
    times = []
    with session(browser, url) as opened:
        page = opened.context.new_page()
        for _ in range(_VISITS + 1):
            page.goto("about:blank")
            started = time.perf_counter()
            page.goto(url, wait_until="commit", timeout=_PAGE_TIMEOUT)
            page.wait_for_selector(content, timeout=_PAGE_TIMEOUT)
            times.append(time.perf_counter() - started)
    return Shown(times[0], times[1:])
