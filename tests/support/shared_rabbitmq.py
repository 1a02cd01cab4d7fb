"""One RabbitMQ for all processes of a test run: its start costs seven seconds of a processor.

Each process of pytest-xdist has a virtual host of its own, as monitors receive every event of a virtual host.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tests.support.servers import RabbitMQServer, Server

_GUEST = "guest"


@dataclass(frozen=True, slots=True)
class RabbitMQVhost:
    """A virtual host of a RabbitMQ that others use as well, so that no test may stop it."""

    port: int
    vhost: str

    def url(self) -> str:
        return f"amqp://{_GUEST}:{_GUEST}@127.0.0.1:{self.port}/{self.vhost}"


class SharedRabbitMQ:
    """The RabbitMQ of a test run, whose processes share `directory`. The first that needs it starts it."""

    def __init__(self, directory: Path, vhosts: int, start: Callable[[Path, int], Server] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._vhosts = vhosts
        self._start = start or VhostsServer
        self._address = directory / "port"
        self._server: Server | None = None
        self._users = (directory / "users").open("w")
        """Locked by every process that uses the server, until it has ended."""

    def vhost(self, number: int) -> RabbitMQVhost:
        """Return the virtual host of that number, once the server runs."""
        with self._starting():
            if not self._address.exists():
                self._server = self._start(self._directory, self._vhosts)
                self._address.write_text(str(self._server.port))
            fcntl.flock(self._users, fcntl.LOCK_SH)
            return RabbitMQVhost(int(self._address.read_text()), _name(number % self._vhosts))

    def close(self) -> None:
        """Stop to use the server; the process that started it ends it when no other uses it any more."""
        server, self._server = self._server, None
        if server is not None:
            with self._starting():
                fcntl.flock(self._users, fcntl.LOCK_EX)
                self._address.unlink()
                server.close()
        self._users.close()

    def _starting(self) -> TextIO:
        """Return an open file whose lock a process holds while it starts, joins or ends the server."""
        lock = (self._directory / "starting").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock


class VhostsServer(RabbitMQServer):
    """A RabbitMQ with virtual hosts, which it makes at its start: its command-line tool needs seconds for one."""

    def __init__(self, directory: Path, vhosts: int) -> None:
        names = ["/", *map(_name, range(vhosts))]
        rights = dict.fromkeys(("configure", "write", "read"), ".*")
        definitions = {
            "users": [{"name": _GUEST, "password": _GUEST, "tags": "administrator"}],
            "vhosts": [{"name": name} for name in names],
            "permissions": [{"user": _GUEST, "vhost": name, **rights} for name in names],
        }
        (file := directory / "definitions.json").write_text(json.dumps(definitions))
        self.conf = f"load_definitions = {file}"
        super().__init__(directory)


def shared_rabbitmq(base: Path) -> tuple[SharedRabbitMQ, int]:
    """Return the test run's RabbitMQ and this process's number in the run; `base` is pytest's directory of the process.

    A process of pytest-xdist that crashes is replaced by one with a higher number: there are virtual hosts to spare.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker:
        return SharedRabbitMQ(base / "rabbitmq", 1), 0
    processes = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    return SharedRabbitMQ(base.parent / "rabbitmq", 2 * processes), int(worker.removeprefix("gw"))


def _name(number: int) -> str:
    return f"process-{number}"
