"""One host of a user: processes that capture, processes that ship, and the journal between them."""

from __future__ import annotations

import itertools
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from sluice_agent.transport.journal.accounting import accounts
from sluice_agent.transport.journal.cursor import cursor_path, load_cursor
from sluice_agent.transport.journal.directory import journal_files
from sluice_agent.transport.journal.ship_lock import current_shipper
from tests.support.accounting import Report, assert_balanced, status_of
from tests.support.brokers import Broker
from tests.support.capture_log import CAPTURE_LOG, captured_ids
from tests.support.endpoint import Endpoint
from tests.support.process import Process
from tests.support.waiting import wait_until
from tests.support.worker import python_env

IN_MEMORY = Broker("memory", "memory://", "cache+memory://", {"task_default_queue": "unconsumed"})
NEVER = {"SLUICE_SHIP": "never"}


class Host:
    """Starts processes on one journal; `close` ends them."""

    def __init__(self, directory: Path, endpoint: Endpoint, env: Mapping[str, str]) -> None:
        self.endpoint = endpoint
        self.env = python_env(IN_MEMORY, {CAPTURE_LOG: str(directory / "capture.log"), "TEST_SHORT_WAITS": "1", **env})
        self.journal = Path(self.env["SLUICE_STATE_DIR"]) / self.env["SLUICE_CONNECTION_ID"]
        self._directory = directory
        self._numbers = itertools.count()
        self._started: list[Process] = []

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """Start `python …` without waiting."""
        log = self._directory / f"process-{next(self._numbers)}.log"
        process = Process([sys.executable, *arguments], log, {**self.env, **(env or {})}, forks=True)
        self._started.append(process)
        return process

    def publishing(self, a_second: float = 0.0, env: Mapping[str, str] | None = None, count: int = 0) -> Process:
        """Start a process that publishes until it is ended, or `count` tasks, and does not ship."""
        return self.start("-m", "tests.faults.publish", str(count), str(a_second), env={**NEVER, **(env or {})})

    def publish(self, count: int, env: Mapping[str, str] | None = None) -> None:
        """Publish `count` tasks in a process, and wait for its end."""
        process = self.publishing(env=env, count=count)
        assert process.wait() == 0, process.tail()

    def ship(self, *options: str, env: Mapping[str, str] | None = None) -> Process:
        """Start `sluice-agent ship`."""
        return self.start("-m", "tests.faults.command", "ship", *options, env=env)

    def end(self, *shippers: Process) -> None:
        """End `sluice-agent ship` as its user does: with SIGTERM, once it handles that; assert exit code 0."""
        for shipper in shippers:
            wait_until(lambda shipper=shipper: _blocks(shipper, signal.SIGTERM), 20, "it has not started", shipper.tail)
            shipper.send(signal.SIGTERM)
        for shipper in shippers:
            assert shipper.wait() == 0, shipper.tail()

    def ship_once(self, timeout: float = 20.0, env: Mapping[str, str] | None = None) -> Process:
        """Run `sluice-agent ship --once` to its end."""

        # It gives up at the first failure: a busy machine must not cause one.
        settings = {"TEST_SHORT_WAITS": "0"}
        process = self.ship("--once", env={**settings, **(env or {})})
        assert process.wait(timeout) == 0, process.tail()
        return process

    def captured(self) -> int:
        """Return the number of events in the capture log."""
        return len(captured_ids(self.env) or [])

    def files(self) -> list[str]:
        """Return the names of the journal's segments."""
        return journal_files(self.journal)

    def files_of_ended_processes(self) -> list[str]:
        """Return the names of the segments whose process has ended."""
        return [name for name in self.files() if not psutil.pid_exists(int(name.split("-")[2]))]

    def shipper(self) -> int:
        """Return the id of the process that ships; 0 if there is none."""
        holder = current_shipper(self.journal, "sluice") or {}
        return int(holder.get("pid", 0))

    def status(self) -> Report:
        """Return the report of `sluice-agent status --json`."""
        return status_of(self.env)

    def pending(self) -> int:
        """Return the number of pending events, as `status` reports it, without starting a process."""
        return accounts(self.journal, load_cursor(cursor_path(self.journal, "sluice")))["pending"]

    def balanced(self, *, killed: int = 0) -> Report:
        """Return the report; assert that it adds up and agrees with the endpoint and the capture log."""
        return assert_balanced(self.env, self.endpoint, killed=killed)

    def settled(self, timeout: float = 20.0, *, killed: int = 0) -> Report:
        """Do the same once no event is pending."""
        wait_until(lambda: self.pending() == 0, timeout, "events are still pending", self.report)
        return self.balanced(killed=killed)

    def report(self) -> str:
        """Return the context for a failure message: the status, and the logs of the last processes."""
        return "\n".join([str(self.status()), *(process.tail(20) for process in self._started[-3:])])

    def close(self) -> None:
        """End all processes."""
        for process in self._started:
            process.stop()


def _blocks(process: Process, number: int) -> bool:
    """Return whether a thread blocks the signal, which then does not end the process until a thread waits for it."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/status")
    masks = re.findall(r"^SigBlk:\s*(\w+)$", "".join(thread.read_text() for thread in threads), re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)
