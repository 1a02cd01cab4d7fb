"""One RabbitMQ for all processes of a test run: its start costs seven seconds of a processor.

Each process of pytest-xdist has a virtual host of its own, as monitors receive every event of a virtual host.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import RabbitMQServer, Server
from tests.support.shared_server import SharedServer, directory_of_run

_GUEST = "guest"


@dataclass(frozen=True, slots=True)
class RabbitMQVhost:
    """A virtual host of a RabbitMQ that others use as well, so that no test may stop it."""

    port: int
    vhost: str

    def url(self) -> str:
        return f"amqp://{_GUEST}:{_GUEST}@127.0.0.1:{self.port}/{self.vhost}"


class SharedRabbitMQ(SharedServer):
    """The RabbitMQ of a test run, whose processes share `directory`."""

    def __init__(self, directory: Path, vhosts: int, start: Callable[[Path, int], Server] | None = None) -> None:
        super().__init__(directory, lambda: (start or VhostsServer)(directory, vhosts))
        self._vhosts = vhosts

    def vhost(self, number: int) -> RabbitMQVhost:
        """Return the virtual host of that number, once the server runs."""
        return RabbitMQVhost(self.port(), _name(number % self._vhosts))


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
    return SharedRabbitMQ(directory_of_run(base) / "rabbitmq", 2 * processes), int(worker.removeprefix("gw"))


def _name(number: int) -> str:
    return f"process-{number}"
