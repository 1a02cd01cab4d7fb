"""`sluice-agent serve` in a process of its own, forked by one that has imported it, which takes half a second."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["sluice_agent.server.runner", __name__])
_ADDRESS_LINE = "sluice-agent serve: listening on "


def _serve(output: Path, log: Path, arguments: dict[str, Any]) -> None:
    for path, number in ((output, 1), (log, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    from sluice_agent.server.runner import serve

    serve(port=0, **arguments)


class ForkedServer:
    """A running server over `database`; `arguments` are those of `serve`. Whoever starts it kills it.

    What it prints is in files whose names begin with `files`, by default that of the database.
    """

    def __init__(self, database: Path | str, files: Path | None = None, **arguments: Any) -> None:
        self._output, self._log = (Path(f"{files or database}.{name}") for name in ("out", "log"))
        self._output.parent.mkdir(parents=True, exist_ok=True)
        self._output.write_text("")
        arguments["database"] = database
        self._process = _processes.Process(target=_serve, args=(self._output, self._log, arguments), daemon=True)
        self._process.start()
        wait_until(lambda: "\n" in self._output.read_text(), 20, "it prints no address", self.log)
        line = self._output.read_text().partition("\n")[0]
        assert line.startswith(f"{_ADDRESS_LINE}http://127.0.0.1:"), line
        self.url = line.removeprefix(_ADDRESS_LINE)

    @property
    def exit_code(self) -> int | None:
        """The exit code: None while it runs; minus the signal's number if a signal ended it."""
        return self._process.exitcode

    def log(self) -> str:
        """Return what it wrote to stderr."""
        return self._log.read_text() if self._log.exists() else ""

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, timeout: float) -> int | None:
        """Wait for its end, at most `timeout` seconds; return the exit code."""
        self._process.join(timeout)
        return self.exit_code

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._process.kill()
        self._process.join()
