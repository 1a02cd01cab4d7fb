"""A real process that sends tasks, as a web application or a script would."""

from __future__ import annotations

import json
import sys
import textwrap
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.brokers import Broker
from tests.support.process import Process
from tests.support.python_forks import run_fork
from tests.support.worker import python_env


class Producer:
    """Runs Python code in new processes; `from tests.integration.tasks import add` imports the app and the agent."""

    def __init__(self, directory: Path, broker: Broker, *, env: Mapping[str, str] | None = None) -> None:
        self.broker = broker
        self.env = python_env(broker, env)
        self._directory = directory
        self._started: list[Process] = []

    def run(self, code: str, timeout: float = 120.0) -> str:
        """Run the code and return its output; fail the test, with its errors, if it does not exit with 0."""
        result = run_fork([sys.executable, "-c", textwrap.dedent(code)], self.env, timeout)
        if result.returncode != 0:
            pytest.fail(f"the producer ended with {result.returncode}\n{result.stdout}\n{result.stderr}", pytrace=False)
        return result.stdout.strip()

    def run_json(self, code: str, timeout: float = 120.0) -> Any:
        """Run the code and return the JSON in the last line of its output."""
        return json.loads(self.run(code, timeout).splitlines()[-1])

    def send(self, task: str, *args: Any, **kwargs: Any) -> str:
        """Send one task of `tests.integration.tasks` by name and return its id."""
        return self.run(
            f"from tests.integration import tasks\nprint(tasks.{task}.apply_async({list(args)!r}, {kwargs!r}).id)"
        ).splitlines()[-1]

    def send_all(self, *calls: tuple[Any, ...]) -> list[str]:
        """Send tasks from one process, each given by its name and arguments; return their ids."""
        return self.run(
            "from tests.integration import tasks\n"
            f"for name, *args in {list(calls)!r}: print(getattr(tasks, name).apply_async(args).id)"
        ).splitlines()[-len(calls) :]

    def start(self, code: str) -> Process:
        """Start the code without waiting: for producers that are killed, or that live as long as the test."""
        log = self._directory / f"producer-{uuid.uuid4().hex[:8]}.log"
        process = Process([sys.executable, "-c", textwrap.dedent(code)], log, self.env)
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            process.stop()
