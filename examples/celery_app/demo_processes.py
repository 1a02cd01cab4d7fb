"""The demo's processes: each in a session of its own, its words in a file, stopped by its id however the demo ends."""

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

FOREIGN = ("SLUICE_", "CELERY_", "BROKER_", "RESULT_BACKEND")
"""Variables of the user's own projects. None reaches the demo, which must not publish to anybody's real broker."""


CURTAIN = 3.0
"""Seconds that a process has to end in when the demo ends."""


class DemoError(Exception):
    """Something that the demo needs did not happen."""


@dataclass(frozen=True)
class Process:
    """A process that was started here."""

    name: str
    log: Path
    popen: subprocess.Popen[bytes]

    @property
    def out(self) -> Path:
        """The file that holds its standard output."""
        return self.log.with_suffix(".out")

    def words(self) -> str:
        """All that it has said so far."""
        return self.out.read_text(errors="replace") + self.log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        """Absent while it runs."""
        return self.popen.poll()

    def must_run(self) -> None:
        """Raises `DemoError` if it has ended."""
        if self.exit_code is not None:
            raise DemoError(f"the {self.name} has ended with exit code {self.exit_code}")

    def has_done_its_work(self) -> bool:
        """Whether it has ended well. Raises `DemoError` if it has ended otherwise."""
        if self.exit_code:
            self.must_run()
        return self.exit_code == 0

    def stop(self, patience: float) -> None:
        """Ask it to end (SIGTERM), and after ``patience`` seconds at the most end whatever is left of its session."""
        if self.exit_code is None:
            self.popen.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.popen.wait(patience)
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


@contextmanager
def started(name: str, command: tuple[str, ...], env: dict[str, str], directory: Path) -> Iterator[Process]:
    """Run ``command``; what it writes to standard output is in ``folder/name.out``, the rest in ``folder/name.log``."""
    log = directory / f"{name}.log"
    with log.open("wb") as errors, log.with_suffix(".out").open("wb") as out:
        popen = subprocess.Popen(  # noqa: S603 the commands are the demo's own
            command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True
        )
    process = Process(name, log, popen)
    try:
        yield process
    finally:
        process.stop(CURTAIN)


def environment(**ours: str) -> dict[str, str]:
    """The user's environment without what is meant for other projects, and with ``ours``."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {
        **own,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PYTHONUNBUFFERED": "1",
        **ours,
    }


def wait_for(what: str, look: Callable[[], Any], process: Process, patience: float) -> Any:
    """Look until there is something, and return it.

    Raises `DemoError` after ``patience`` seconds, or when the process that must bring it about has ended.
    """
    deadline = time.monotonic() + patience
    while not (found := look()):
        process.must_run()
        if time.monotonic() > deadline:
            raise DemoError(f"waited {patience:.0f} s for {what}")
        time.sleep(0.05)
    return found


def tails(directory: Path, lines: int = 15) -> str:
    """The last lines of every log."""
    parts = []
    for log in sorted(directory.glob("*.log")):
        last = log.read_text(errors="replace").splitlines()[-lines:]
        parts += [f"--- {log.stem}, its last words", *last] if last else []
    return "\n".join(parts)
