"""A real `celery worker` process."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import celery
import psutil
import pytest

from tests.support.brokers import Broker
from tests.support.process import ROOT, Process
from tests.support.waiting import wait_until

POOLS = ("prefork", "threads", "solo", "gevent", "eventlet")
APP = "tests.integration.tasks"
READY_SECONDS = 40.0


@dataclass(frozen=True, slots=True)
class Ending:
    """The exit code of a worker, and the seconds that its shutdown took."""

    code: int
    seconds: float


def python_env(broker: Broker, env: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment of a test's process: pytest's without SLUICE_ variables, the broker's, then `env`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    fixed = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "SLUICE_TEST_INSTALL": "1"}
    return {**inherited, **fixed, **broker.env(), **(env or {})}


def signal_number(value: int | str) -> int:
    """Return the signal's number: 9, "9", "KILL" and "SIGKILL" are the same signal."""
    if isinstance(value, int) or value.isdigit():
        return int(value)
    return signal.Signals[f"SIG{value.upper().removeprefix('SIG')}"].value


class WorkerProcess:
    """A worker that is ready for work when the constructor returns. With `forks` it starts in half the CPU time.

    It also has the interface of pytest-celery's containers, so that its nodes can use it.
    """

    def __init__(
        self,
        directory: Path,
        broker: Broker,
        *,
        app: str = APP,
        pool: str = "prefork",
        concurrency: int = 2,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        name: str | None = None,
        loglevel: str = "INFO",
        wait: bool = True,
        forks: bool = True,
    ) -> None:
        self.broker = broker
        self.app = app
        self.pool = pool
        self.concurrency = concurrency
        self.loglevel = loglevel
        self.hostname = name or f"w{uuid.uuid4().hex[:8]}@test"
        self.env = python_env(broker, env)
        self.command = [
            *(sys.executable, "-m", "celery", "-A", app, "worker", "-n", self.hostname, "-P", pool),
            *("-c", str(concurrency), "-l", loglevel, "--without-mingle", "--without-gossip", *args),
        ]
        self.log = directory / f"{self.hostname}.log"
        self._forks = forks and pool not in {"gevent", "eventlet"}  # which patch modules before others import them
        self.process = Process(self.command, self.log, self.env, forks=self._forks)
        self._logged_before = 0
        if wait:
            self.ready()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.running

    @property
    def exit_code(self) -> int | None:
        """The exit code: None while it runs; minus the signal's number if a signal ended it."""
        return self.process.exit_code

    def ready(self) -> bool:
        """Wait for the line `… ready.` in the log; fail the test, with the log, if it never appears."""

        def is_ready() -> bool:
            if not self.running:
                pytest.fail(f"the worker ended with {self.exit_code}\n{self.tail()}", pytrace=False)
            return f"{self.hostname} ready." in self.logs()[self._logged_before :]

        return wait_until(is_ready, READY_SECONDS, "the worker is not ready", self.tail)

    def pids(self) -> list[int]:
        """Return the ids of the pool's processes; none if the pool runs in the worker itself."""
        try:
            children = psutil.Process(self.pid).children()
            return sorted(child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return []

    def kill(self, signal: int | str = "SIGKILL") -> None:
        """Send a signal to the worker's main process alone; after SIGKILL, wait for its end."""
        number = signal_number(signal)
        self.process.send(number)
        if number == 9:
            self.process.wait()

    def terminate(self, timeout: float = 60.0) -> Ending:
        """Shut down warmly: send SIGTERM and wait for the end, which billiard's children may delay by half a minute."""
        started = time.monotonic()
        self.process.send(signal.SIGTERM)
        return Ending(self.process.wait(timeout), time.monotonic() - started)

    def start_again(self) -> None:
        """End all left-over processes, and start the worker again with the same name, environment and log."""
        self.process.stop()
        self._logged_before = len(self.logs())
        self.process = Process(self.command, self.log, self.env, forks=self._forks)
        self.ready()

    def logs(self) -> str:
        return self.process.logs()

    def tail(self, lines: int = 60) -> str:
        return self.process.tail(lines)

    def teardown(self) -> None:
        """End the worker and all processes that it started."""
        self.process.stop()

    # The rest of the interface of pytest-celery's containers

    @property
    def name(self) -> str:
        return self.hostname

    @property
    def id(self) -> str:
        return self.hostname

    @property
    def status(self) -> str:
        return "running" if self.running else "exited"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return self.broker.settings()

    def reload(self) -> None:
        """Do nothing: nothing is cached."""

    def restart(self, timeout: float = 60.0) -> None:
        if self.running:
            self.terminate(timeout)
        self.start_again()

    def version(self) -> str:
        return celery.__version__

    def log_level(self) -> str:
        return self.loglevel

    def worker_name(self) -> str:
        return self.hostname.partition("@")[0]

    def worker_queue(self) -> str:
        return self.broker.queue
