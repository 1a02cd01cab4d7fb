"""One host of a user: processes that capture, processes that ship, and the journal between them."""

from __future__ import annotations

import itertools
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from sluice_agent.transport.accounting import accounts
from sluice_agent.transport.cursor import cursor_path, load_cursor
from sluice_agent.transport.directory import journal_files
from sluice_agent.transport.lock import who_ships
from tests.support.accounting import Report, assert_balanced, status_of
from tests.support.brokers import Broker
from tests.support.capture_log import CAPTURE_LOG, captured_ids
from tests.support.endpoint import Endpoint
from tests.support.process import Process
from tests.support.waiting import wait_until
from tests.support.worker import python_env

IN_MEMORY = Broker("memory", "memory://", "cache+memory://", {"task_default_queue": "nobody-takes"})
NEVER = {"SLUICE_SHIP": "never"}


class Host:
    """Starts processes on one journal; `close` ends them."""

    def __init__(self, directory: Path, endpoint: Endpoint, env: Mapping[str, str]) -> None:
        self.endpoint = endpoint
        self.env = python_env(IN_MEMORY, {CAPTURE_LOG: str(directory / "witness"), "TEST_SHORT_WAITS": "1", **env})
        self.journal = Path(self.env["SLUICE_STATE_DIR"]) / self.env["SLUICE_CONNECTION_ID"]
        self._directory = directory
        self._numbers = itertools.count()
        self._started: list[Process] = []

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """Start `python …` and go on."""
        log = self._directory / f"process-{next(self._numbers)}.log"
        process = Process([sys.executable, *arguments], log, {**self.env, **(env or {})})
        self._started.append(process)
        return process

    def publishing(self, a_second: float = 0.0, env: Mapping[str, str] | None = None, count: int = 0) -> Process:
        """A process that publishes until it is ended, or `count` tasks, and leaves the shipping to others."""
        return self.start("-m", "tests.faults.publish", str(count), str(a_second), env={**NEVER, **(env or {})})

    def publish(self, count: int, env: Mapping[str, str] | None = None) -> None:
        """`count` events of a process that has ended."""
        process = self.publishing(env=env, count=count)
        assert process.wait() == 0, process.tail()

    def ship(self, *options: str, env: Mapping[str, str] | None = None) -> Process:
        """`sluice-agent ship`."""
        return self.start("-m", "tests.faults.command", "ship", *options, env=env)

    def end(self, *shippers: Process) -> None:
        """End `sluice-agent ship` as its user does: with SIGTERM, once it takes that, and with 0."""
        for shipper in shippers:
            wait_until(lambda shipper=shipper: _holds_back(shipper, signal.SIGTERM), 20, "it is not up", shipper.tail)
            shipper.send(signal.SIGTERM)
        for shipper in shippers:
            assert shipper.wait() == 0, shipper.tail()

    def ship_once(self, timeout: float = 20.0, env: Mapping[str, str] | None = None) -> Process:
        """`sluice-agent ship --once`, which has ended."""
        patient = {"TEST_SHORT_WAITS": "0"}  # it gives up at the first failure: none shall come of a busy machine
        process = self.ship("--once", env={**patient, **(env or {})})
        assert process.wait(timeout) == 0, process.tail()
        return process

    def noted(self) -> int:
        """How many events the witnesses have noted."""
        return len(captured_ids(self.env) or [])

    def files(self) -> list[str]:
        """The journal's files."""
        return journal_files(self.journal)

    def files_of_the_dead(self) -> list[str]:
        """Those whose process has ended."""
        return [name for name in self.files() if not psutil.pid_exists(int(name.split("-")[2]))]

    def shipper(self) -> int:
        """The process that ships; 0 where there is none."""
        holder = who_ships(self.journal, "sluice") or {}
        return int(holder.get("pid", 0))

    def status(self) -> Report:
        """What `sluice-agent status --json` says."""
        return status_of(self.env)

    def pending(self) -> int:
        """How many events wait: what `status` says, without a process for each look."""
        return accounts(self.journal, load_cursor(cursor_path(self.journal, "sluice")))["pending"]

    def balanced(self, *, killed: int = 0) -> Report:
        """The accounts, which add up and agree with the endpoint and the witnesses."""
        return assert_balanced(self.env, self.endpoint, killed=killed)

    def settled(self, timeout: float = 20.0, *, killed: int = 0) -> Report:
        """The same, when nothing waits any more."""
        wait_until(lambda: self.pending() == 0, timeout, "something still waits", self.report)
        return self.balanced(killed=killed)

    def report(self) -> str:
        """What a failure's reader wants to see."""
        return "\n".join([str(self.status()), *(process.tail(20) for process in self._started[-3:])])

    def close(self) -> None:
        """End everybody."""
        for process in self._started:
            process.stop()


def _holds_back(process: Process, number: int) -> bool:
    """Whether a signal waits until it is asked for, rather than ends the process. In a thread that asks it is open."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/status")
    held = re.findall(r"^SigBlk:\s*(\w+)$", "".join(thread.read_text() for thread in threads), re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in held)
