"""The cost of an event in a monitor, from the broker's socket on: in ours, up to the journal, and in Flower.

Celery's own dispatcher publishes the events of many tasks as fast as it can; both monitors receive the same events, one
after the other, on the same broker. All threads of a monitor count, from before the first event to after the last.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import flower
from tests.benchmarks.cpu import cpu_microseconds
from tests.benchmarks.dispatch import EVENTS_A_TASK
from tests.benchmarks.flower import Flower
from tests.benchmarks.memory import peak_bytes
from tests.benchmarks.page import Section
from tests.benchmarks.plots import Bar, Plot
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tables import Table
from tests.benchmarks.workers import Progress
from tests.support.process import ROOT, Process
from tests.support.servers import RabbitMQServer, RedisServer
from tests.support.waiting import wait_until

BROKERS: dict[str, type[RedisServer | RabbitMQServer]] = {"rabbitmq": RabbitMQServer, "redis": RedisServer}
_START_TIMEOUT = 60.0  # seconds
_SETTLING_SECONDS = 4.0  # in which a monitor that already listens finishes its start
_EVENT_SECONDS = 0.0002
_JOURNAL_BYTES = 2_000_000_000  # room for all events: nothing ships them
_ARRIVAL_TIMEOUT = 5.0  # seconds without a further event: no more will arrive


@dataclass(frozen=True, slots=True)
class EventCost:
    """The cost of one monitor, and the number of events that arrived."""

    published: int
    arrived: int
    microseconds: float
    """Processor time for each event that arrived."""
    seconds: float
    """Time from the first event's publication to the last event's arrival."""
    megabytes: float
    """The peak of its memory."""


class MonitorProcess(ABC):
    """A monitor that listens when the constructor returns."""

    name: str

    def __init__(self, directory: Path, url: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the monitor; `environment` selects the version of the package, None this checkout."""
        directory.mkdir()
        self._environment = os.environ if environment is None else environment
        self._cwd = ROOT if environment is None else directory
        self.process = self._start(directory, url)
        wait_until(self._listens, _START_TIMEOUT, f"{self.name} does not listen", self.process.tail)
        time.sleep(_SETTLING_SECONDS)

    def measure(self, url: str, tasks: int) -> EventCost:
        """Publish, and wait until all events have arrived, or no more arrive."""
        pid = self.process.pid
        before, started = cpu_microseconds(pid), time.perf_counter()
        command = [sys.executable, "-m", "tests.benchmarks.dispatch", url, str(tasks)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        published, arrived, arrived_at = tasks * EVENTS_A_TASK, -1, time.perf_counter()
        while arrived < published and time.perf_counter() - arrived_at < _ARRIVAL_TIMEOUT:
            count = self.arrived()
            if count != arrived:
                arrived, arrived_at = count, time.perf_counter()
            time.sleep(0.2)
        cost = (cpu_microseconds(pid) - before) / max(arrived, 1)
        return EventCost(published, arrived, cost, arrived_at - started, peak_bytes(pid) / 1e6)

    @abstractmethod
    def arrived(self) -> int:
        """Return the number of task events that arrived."""

    @abstractmethod
    def _start(self, directory: Path, url: str) -> Process: ...

    @abstractmethod
    def _listens(self) -> bool: ...


class Sidecar(MonitorProcess):
    """`sluice-agent monitor`, which writes each event to its journal and does not ship it."""

    name = "sluice-agent"

    def _start(self, directory: Path, url: str) -> Process:
        self._directory = directory
        self._counted: dict[Path, tuple[int, int]] = {}
        env = {
            **{name: value for name, value in self._environment.items() if not name.startswith("SLUICE_")},
            "SLUICE_BROKER_URL": url,
            "SLUICE_CONNECTION_ID": str(uuid.uuid4()),
            "SLUICE_SHIP": "never",
            "SLUICE_JOURNAL_MAX_BYTES": str(_JOURNAL_BYTES),
            "SLUICE_STATE_DIR": str(directory),
        }
        return Process([sys.executable, "-m", "sluice_agent", "monitor"], directory / "log", env, self._cwd)

    def _listens(self) -> bool:
        return "Listening to the events" in self.process.logs()

    def arrived(self) -> int:
        for path in self._directory.rglob("[!.]*-events-*.ndjson"):
            offset, count = self._counted.get(path, (0, 0))
            with path.open("rb") as file:
                file.seek(offset)
                content = file.read()
            new = content[: content.rfind(b"\n") + 1]  # the last line may be incomplete
            self._counted[path] = offset + len(new), count + new.count(b'{"type":"job_state_change"')
        return sum(count for _, count in self._counted.values())


class FlowerMonitor(MonitorProcess):
    """Flower, which keeps the events that it receives in memory."""

    name = "Flower"

    def _start(self, directory: Path, url: str) -> Process:
        self._flower = Flower(directory, url)
        return self._flower.process

    def _listens(self) -> bool:
        return self.arrived() >= 0

    def arrived(self) -> int:
        return self._flower.task_events()


def measure(sizes: Sizes, progress: Progress) -> Section:
    """Measure each monitor on each broker; without Flower if that is not installed."""
    monitor_classes: list[type[MonitorProcess]] = [Sidecar]
    if flower.IS_INSTALLED:
        monitor_classes.append(FlowerMonitor)
    costs: dict[tuple[str, str], EventCost] = {}
    for broker, server_class in BROKERS.items():
        for monitor_class in monitor_classes:
            with tempfile.TemporaryDirectory() as name:
                directory = Path(name)
                server = server_class(directory / broker)
                try:
                    cost = _measured(monitor_class, directory, server.url(), sizes.event_tasks)
                finally:
                    server.close()
            costs[broker, monitor_class.name] = cost
            progress("  ".join(_row(broker, monitor_class.name, cost)))
    return Section(
        "An event in the sidecar",
        [
            (
                f"Celery's own dispatcher publishes the events of {sizes.event_tasks:,} tasks as fast as it can. Each "
                "monitor receives them alone, from the broker's socket on: the sidecar up to its journal, "
                "Flower in its memory."
            )
        ],
        [
            Table(
                ["broker and monitor", "published", "arrived", "µs of CPU an event", "peak MB", "seconds"],
                [_row(broker, name, cost) for (broker, name), cost in costs.items()],
            )
        ],
        [
            Plot(
                "cost",
                "CPU of an event in a monitor",
                "µs an event",
                [Bar(f"{name}, {broker}", cost.microseconds) for (broker, name), cost in costs.items()],
            )
        ],
    )


def seconds(sizes: Sizes) -> float:
    """Return about how long it takes."""
    return len(BROKERS) * 2 * (30 + sizes.event_tasks * EVENTS_A_TASK * _EVENT_SECONDS)


def _row(broker: str, name: str, cost: EventCost) -> list[str]:
    figures = [f"{cost.published:,}", f"{cost.arrived:,}", f"{cost.microseconds:.1f}", f"{cost.megabytes:.0f}"]
    return [f"{broker}, {name}", *figures, f"{cost.seconds:.1f}"]


def _measured(monitor_class: type[MonitorProcess], directory: Path, url: str, tasks: int) -> EventCost:
    monitor = monitor_class(directory / "monitor", url)
    try:
        return monitor.measure(url, tasks)
    finally:
        monitor.process.stop(10)
