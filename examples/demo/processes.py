"""The demo's processes: every one in a separate session, with its output in files, and always stopped by its id."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOREIGN_PREFIXES = ("SLUICE_", "CELERY_", "BROKER_", "RESULT_BACKEND")
"""Variables of the user's projects. None reaches the demo, which must not publish to a real broker."""

STOP_TIMEOUT = 3.0
"""Seconds that a process has to exit when the demo ends."""


class DemoError(Exception):
    """A condition that the demo needs did not come true."""


@dataclass(frozen=True)
class Process:
    """A process that the demo started."""

    name: str
    log: Path
    popen: subprocess.Popen[bytes]

    @property
    def out(self) -> Path:
        """The file that holds its standard output."""
        return self.log.with_suffix(".out")

    def output(self) -> str:
        """Return its output so far."""
        return self.out.read_text(errors="replace") + self.log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.popen.poll()

    def check_running(self) -> None:
        """Raise `DemoError` if it has ended."""
        if self.exit_code is not None:
            raise DemoError(f"the {self.name} has ended with exit code {self.exit_code}")

    def has_finished(self) -> bool:
        """Return whether it has ended with exit code 0. Raises `DemoError` if it has ended with another."""
        if self.exit_code:
            self.check_running()
        return self.exit_code == 0

    def stop(self, timeout: float) -> None:
        """Send it SIGTERM, and kill the rest of its session after at most ``timeout`` seconds."""
        if self.exit_code is None:
            self.popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout)
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


@contextmanager
def started(name: str, command: tuple[str, ...], env: dict[str, str], directory: Path) -> Iterator[Process]:
    """Run ``command``; its standard output goes to ``directory/name.out``, its errors to ``directory/name.log``."""
    log = directory / f"{name}.log"
    with log.open("wb") as errors, log.with_suffix(".out").open("wb") as out:
        popen = subprocess.Popen(  # noqa: S603 the commands are the demo's own
            command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True
        )
    process = Process(name, log, popen)
    try:
        yield process
    finally:
        process.stop(STOP_TIMEOUT)


def environment(**variables: str) -> dict[str, str]:
    """Return the environment without the variables of other projects, and with ``variables``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_PREFIXES)}
    return {
        **inherited,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PYTHONUNBUFFERED": "1",
        **variables,
    }


def wait_for(description: str, condition: Callable[[], Any], process: Process, timeout: float) -> Any:
    """Wait until ``condition`` returns a true result, and return it.

    Raises `DemoError` after ``timeout`` seconds, or if ``process`` has ended.
    """
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        process.check_running()
        if time.monotonic() > deadline:
            raise DemoError(f"waited {timeout:.0f} s for {description}")
        time.sleep(0.05)
    return result


def tails(directory: Path, lines: int = 15) -> str:
    """Return the last lines of every log."""
    parts = []
    for log in sorted(directory.glob("*.log")):
        last_lines = log.read_text(errors="replace").splitlines()[-lines:]
        parts += [f"--- {log.stem}, last lines", *last_lines] if last_lines else []
    return "\n".join(parts)
