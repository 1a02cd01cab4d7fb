"""The settings of workers, producers and clients for a broker, with a queue that belongs to one test."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from celery import Celery

from tests.support.servers import RabbitMQServer, RedisServer, Server
from tests.support.shared_rabbitmq import RabbitMQVhost

BROKERS = ("redis", "rabbitmq", "rabbitmq-quorum", "filesystem")

_databases = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker and a result backend as one test sees them."""

    name: str
    url: str
    backend: str
    conf: dict[str, Any] = field(default_factory=dict)
    """Celery settings beside the two URLs; `task_default_queue` belongs to this test alone."""
    server: Server | None = None
    """The process behind it, which a test may stop; None for directories, and for a RabbitMQ that others use."""

    @property
    def queue(self) -> str:
        return self.conf["task_default_queue"]

    def with_conf(self, **conf: Any) -> Broker:
        """Return the same broker with more Celery settings."""
        return replace(self, conf={**self.conf, **conf})

    def env(self) -> dict[str, str]:
        """Return the variables that `tests.integration.tasks` reads."""
        return {"BROKER_URL": self.url, "RESULT_BACKEND": self.backend, "CELERY_CONF": json.dumps(self.conf)}

    def app(self) -> Celery:
        """Return a client in the test process, without the agent: `broker.app().send_task(name, args)`."""
        app = Celery(f"client-of-{self.queue}", set_as_current=False)
        app.conf.update(self.settings())
        return app

    def settings(self) -> dict[str, Any]:
        return {"broker_url": self.url, "result_backend": self.backend, **self.conf}


def redis_broker(server: RedisServer, conf: Mapping[str, Any] | None = None) -> Broker:
    """Return a broker whose queue and results are in an unused database."""
    url = server.url(next(_databases))
    return Broker("redis", url, url, {**_own_queue(), **(conf or {})}, server)


def rabbitmq_broker(
    server: RabbitMQServer | RabbitMQVhost,
    results: RedisServer,
    *,
    quorum: bool = False,
    conf: Mapping[str, Any] | None = None,
) -> Broker:
    """Return a broker with a new queue; results are in Redis."""
    kind = {
        "task_default_queue_type": "quorum",
        "task_default_exchange_type": "topic",  # Celery's delayed delivery requires it
        "broker_transport_options": {"confirm_publish": True},
    }
    settings = {**_own_queue(), **(kind if quorum else {}), **(conf or {})}
    name = "rabbitmq-quorum" if quorum else "rabbitmq"
    process = server if isinstance(server, RabbitMQServer) else None
    return Broker(name, server.url(), results.url(next(_databases)), settings, process)


def filesystem_broker(directory: Path, conf: Mapping[str, Any] | None = None) -> Broker:
    """Return a broker whose messages and results are in directories, without a server."""
    directories = {name: directory / name for name in ("messages", "processed", "control", "results")}
    for subdirectory in directories.values():
        subdirectory.mkdir(parents=True, exist_ok=True)
    options = {
        "data_folder_in": str(directories["messages"]),
        "data_folder_out": str(directories["messages"]),
        "processed_folder": str(directories["processed"]),
        "control_folder": str(directories["control"]),
        "polling_interval": 0.05,
    }
    settings = {**_own_queue(), "broker_transport_options": options, **(conf or {})}
    return Broker("filesystem", "filesystem://", f"file://{directories['results']}", settings)


def _own_queue() -> dict[str, str]:
    return {"task_default_queue": f"q-{uuid.uuid4().hex[:12]}"}
