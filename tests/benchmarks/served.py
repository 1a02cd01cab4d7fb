"""A server in a process of its own, as `sluice-agent serve` runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks.cpu import cpu_microseconds
from tests.benchmarks.memory import peak_bytes

_COMMAND = [sys.executable, "-m", "sluice_agent", "serve", "--port", "0", "--database"]


@dataclass(frozen=True, slots=True)
class Served:
    """A running server: its process, and the API's address, such as ``http://127.0.0.1:8787/api``."""

    pid: int
    url: str

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    @property
    def cpu(self) -> float:
        """The seconds of processor time that it has used."""
        return cpu_microseconds(self.pid) / 1e6

    @property
    def peak_memory(self) -> int:
        """The most bytes that were resident at a time."""
        return peak_bytes(self.pid)


@contextmanager
def served(database: Path | str) -> Iterator[Served]:
    """Run a server over `database`, and end it by a signal."""
    with subprocess.Popen([*_COMMAND, str(database)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Served(process.pid, process.stdout.readline().split()[-1])
        finally:
            process.terminate()
            process.wait(30)
