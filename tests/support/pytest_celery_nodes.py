"""pytest-celery's nodes for local processes: each of its containers is a process here."""

from __future__ import annotations

from typing import Any

import psutil
from pytest_celery import CeleryTestBackend, CeleryTestBroker, CeleryTestWorker

from tests.support.brokers import Broker
from tests.support.worker import WorkerProcess, signal_number


class ServerContainer:
    """A broker or backend with the interface of a container. Tests share the server: teardown leaves it running."""

    def __init__(self, broker: Broker, url: str) -> None:
        self.broker = broker
        self.url = url

    @property
    def name(self) -> str:
        return self.broker.name

    @property
    def id(self) -> str:
        return self.broker.queue

    @property
    def status(self) -> str:
        server = self.broker.server
        return "running" if server is None or server.running else "exited"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.url, "host_url": self.url}

    def ready(self) -> bool:
        return self.status == "running"

    def logs(self) -> str:
        return self.broker.server.logs() if self.broker.server else ""

    def kill(self, signal: int | str = "SIGKILL") -> None:
        if self.broker.server:
            self.broker.server.kill(signal_number(signal))

    def restart(self, timeout: float = 0.0) -> None:
        if self.broker.server:
            self.broker.server.restart()

    def reload(self) -> None:
        """Do nothing: nothing is cached."""

    def teardown(self) -> None:
        """Start the server if the test stopped it: the next test needs it."""
        if self.broker.server:
            self.broker.server.start()


class LocalBroker(CeleryTestBroker):
    """`celery_setup.broker`."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(ServerContainer(broker, broker.url))


class LocalBackend(CeleryTestBackend):
    """`celery_setup.backend`: the same Redis database, or directory, that the workers use."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(ServerContainer(broker, broker.backend))


class LocalWorker(CeleryTestWorker):
    """`celery_setup.worker`; its `container` is the `WorkerProcess`."""

    container: WorkerProcess

    def hostname(self) -> str:
        return self.container.hostname

    def get_running_processes_info(
        self, columns: list[str] | None = None, filters: dict[str, str] | None = None
    ) -> list[dict[str, Any]]:
        main = psutil.Process(self.container.pid)
        processes = [process.as_dict(columns) for process in (main, *main.children(recursive=True))]
        return [info for info in processes if all(info.get(name) == value for name, value in (filters or {}).items())]
