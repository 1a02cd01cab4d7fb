"""A real `sluice-agent monitor` process."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.brokers import Broker
from tests.support.process import Process
from tests.support.waiting import wait_until
from tests.support.worker import python_env


class Sidecar:
    """A monitor that listens when the constructor returns, with its own journal. `forks` is that of `Process`."""

    def __init__(
        self, directory: Path, broker: Broker, env: Mapping[str, str], args: Sequence[str] = (), *, forks: bool = True
    ) -> None:
        name = f"sidecar-{uuid.uuid4().hex[:8]}"
        state = directory / name
        state.mkdir(mode=0o700)
        self.env = python_env(broker, {**env, "SLUICE_STATE_DIR": str(state)})
        options = json.dumps(broker.conf.get("broker_transport_options", {}))
        self.process = Process(
            [
                *(sys.executable, "-m", "sluice_agent", "monitor"),
                *("--broker", broker.url, "--transport-options", options, *args),
            ],
            directory / f"{name}.log",
            self.env,
            forks=forks,
        )
        wait_until(self._listens, 40, "the monitor does not listen", self.tail)

    def _listens(self) -> bool:
        if not self.process.running:
            pytest.fail(f"the monitor ended with {self.process.exit_code}\n{self.tail()}", pytrace=False)
        return "Listening to the events" in self.process.logs()

    def tail(self, lines: int = 60) -> str:
        """Return the end of its log."""
        return self.process.tail(lines)

    def terminate(self) -> int:
        """Send SIGTERM, wait until all is delivered, and return the exit code."""
        self.process.send(15)
        return self.process.wait()

    def stop(self) -> None:
        """End it at once."""
        self.process.stop()
