"""A backlog that is drained by `sluice-agent ship`: to an endpoint that only counts, and to a server that stores.

Also the journal with many writers, and the shipper's memory while much waits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.endpoint import LightEndpoint
from tests.benchmarks.journal_lines import lines
from tests.benchmarks.memory import peak_bytes
from tests.benchmarks.page import Section
from tests.benchmarks.plots import Bar, Plot
from tests.benchmarks.served import served
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tables import Table
from tests.benchmarks.workers import Progress
from tests.support.process import ROOT

_MAX_BYTES = 8_000_000_000
_EMPTY_RUNS = 4
_POLL_SECONDS = 0.005
_BLACK_HOLE, _SERVER = "an endpoint that counts", "sluice-agent serve"
_EVENT_SECONDS, _SERVED_EVENT_SECONDS = 0.00003, 0.0001


@dataclass(frozen=True, slots=True)
class Drained:
    """What a process that shipped everything used, less what it uses with an empty journal."""

    append: float
    """Microseconds of a writer's CPU for an event."""
    files: int
    rate: float | None
    """Events a second; None if starting took as long as all of them."""
    cpu: float | None
    """Microseconds of the shipper's CPU for an event; None likewise."""
    megabytes: float
    """The shipper's largest memory, in which the interpreter and its libraries are."""


class _Run(NamedTuple):
    seconds: float
    cpu: float
    megabytes: float


def measure(sizes: Sizes, progress: Progress) -> Section:
    """Fill journals and drain them."""
    waiting = sizes.waiting // len(next(lines(str(uuid.uuid4()))))
    cases = [(sizes.backlog, 1, _BLACK_HOLE), (sizes.served_backlog, 1, _SERVER)]
    cases += [(sizes.written, writers, _BLACK_HOLE) for writers in sizes.writers]
    cases += [(waiting, 1, _BLACK_HOLE)]
    empty = _empty()
    rows, bars = [], []
    for events, writers, endpoint in cases:
        result = _drain(events, writers, endpoint, empty)
        row = [f"{events:,} to {endpoint}", str(writers), f"{result.append:.2f}", str(result.files)]
        row.append("—" if result.rate is None else f"{result.rate:,.0f}")
        row += ["—" if result.cpu is None else f"{result.cpu:.2f}", f"{result.megabytes:.0f}"]
        progress("  ".join(row))
        rows.append(row)
        if result.rate is not None:
            bars.append(Bar(f"{events:,}, {writers} writers, {endpoint}", result.rate / 1e3))
    return Section(
        "A backlog, and many writers",
        [
            (
                "`sluice-agent ship --once` delivers a journal that is full when it starts, once with "
                f"{sizes.waiting / 1e6:,.0f} MB in it. Its time and CPU are less the least with an empty journal "
                f"({empty.seconds:.2f} s, {empty.cpu:.2f} s of CPU, {empty.megabytes:.0f} MB). "
                "A dash stands where starting took as long as all events. Writers append at full speed, all "
                "at the same time, each in a process."
            ),
        ],
        [
            Table(
                [
                    "events",
                    "writers",
                    "µs of CPU an append",
                    "files",
                    "events/s",
                    "µs of the shipper's CPU",
                    "its peak MB",
                ],
                rows,
            )
        ],
        [Plot("rate", "A backlog is drained", "thousand events a second", bars)],
    )


def seconds(sizes: Sizes) -> float:
    """Return about how long it takes."""
    events = sizes.backlog + len(sizes.writers) * sizes.written + sizes.waiting / 600
    return 20 + events * _EVENT_SECONDS + sizes.served_backlog * _SERVED_EVENT_SECONDS


def _empty() -> _Run:
    with tempfile.TemporaryDirectory() as name, _endpoint(_BLACK_HOLE) as (url, _):
        directory = Path(name) / str(uuid.uuid4())
        directory.mkdir(mode=0o700)
        runs = [_ship(directory, url) for _ in range(_EMPTY_RUNS)]  # the first writes the byte code
    return _Run(*(min(figures) for figures in zip(*runs, strict=True)))


def _drain(events: int, writers: int, endpoint: str, empty: _Run) -> Drained:
    with tempfile.TemporaryDirectory() as name, _endpoint(endpoint) as (url, light):
        directory = Path(name) / str(uuid.uuid4())
        directory.mkdir(mode=0o700)
        append = _fill(directory, events // writers, writers)
        files = len(list(directory.glob("*-events-*")))
        run = _ship(directory, url)
        arrived = events // writers * writers
        if light is not None and light.received.events != arrived:
            raise RuntimeError(f"{light.received.events:,} of {arrived:,} events arrived")
    duration, cpu = beyond(run.seconds, empty.seconds), beyond(run.cpu, empty.cpu)
    return Drained(append, files, duration and arrived / duration, cpu and cpu / arrived * 1e6, run.megabytes)


def beyond(figure: float, empty: float) -> float | None:
    """Return what a run took beyond its start, or None if the noise of the start decides about it."""
    return figure - empty if figure >= 2 * empty else None


def _fill(directory: Path, events: int, writers: int) -> float:
    """Let each writer append so many events; return the microseconds of CPU of an append."""
    command = [sys.executable, "-m", "tests.benchmarks.journal_lines", str(directory), str(events), str(_MAX_BYTES)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(writers)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    costs = [float(process.communicate()[0]) for process in processes]
    return sum(costs) / writers


def _ship(directory: Path, url: str) -> _Run:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")},
        "SLUICE_API_KEY": "sk_bench",
        "SLUICE_API_URL": f"{url}/api",
        "SLUICE_CONNECTION_ID": directory.name,
        "SLUICE_JOURNAL_MAX_BYTES": str(_MAX_BYTES),
        "SLUICE_STATE_DIR": str(directory.parent),
    }
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "sluice_agent", "ship", "--once"], cwd=ROOT, env=environment)
    ended, peak = 0, 0
    while not ended:
        peak = max(
            peak, peak_bytes(process.pid)
        )  # the peak in its usage is that of the process that started it, if larger
        time.sleep(_POLL_SECONDS)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"sluice-agent ship ended with {process.returncode}")
    return _Run(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, peak / 1e6)


@contextmanager
def _endpoint(name: str) -> Iterator[tuple[str, LightEndpoint | None]]:
    """Yield an address without its path, and the endpoint if it counts."""
    if name == _SERVER:
        with tempfile.TemporaryDirectory() as directory, served(Path(directory) / "backlog.db") as server:
            yield server.url.removesuffix("/api"), None
        return
    endpoint = LightEndpoint()
    try:
        yield endpoint.url, endpoint
    finally:
        endpoint.close()
