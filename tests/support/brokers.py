"""What workers, producers and clients need to know of a broker, with a queue that belongs to one test."""

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

BROKERS = ("redis", "rabbitmq", "rabbitmq-quorum", "filesystem")

_databases = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker and a result backend as one test sees them."""

    name: str
    url: str
    backend: str
    conf: dict[str, Any] = field(default_factory=dict)
    """Celery settings beside the two URLs; `task_default_queue` is this test's own."""
    server: Server | None = None
    """The process behind it, shared by tests; None for folders."""

    @property
    def queue(self) -> str:
        return self.conf["task_default_queue"]

    def with_conf(self, **conf: Any) -> Broker:
        """The same broker with more Celery settings."""
        return replace(self, conf={**self.conf, **conf})

    def env(self) -> dict[str, str]:
        """What `tests.integration.tasks` reads."""
        return {"BROKER_URL": self.url, "RESULT_BACKEND": self.backend, "CELERY_CONF": json.dumps(self.conf)}

    def app(self) -> Celery:
        """A client in the test process, without the agent: `broker.app().send_task(name, args)`."""
        app = Celery(f"client-of-{self.queue}", set_as_current=False)
        app.conf.update(self.settings())
        return app

    def settings(self) -> dict[str, Any]:
        return {"broker_url": self.url, "result_backend": self.backend, **self.conf}


def redis_broker(server: RedisServer, conf: Mapping[str, Any] | None = None) -> Broker:
    """A database of its own for the queue and the results."""
    url = server.url(next(_databases))
    return Broker("redis", url, url, {**_own_queue(), **(conf or {})}, server)


def rabbitmq_broker(
    server: RabbitMQServer, results: RedisServer, *, quorum: bool = False, conf: Mapping[str, Any] | None = None
) -> Broker:
    """A queue of its own on the shared node; results in Redis."""
    kind = {
        "task_default_queue_type": "quorum",
        "task_default_exchange_type": "topic",  # Celery's delayed delivery asks for it
        "broker_transport_options": {"confirm_publish": True},
    }
    settings = {**_own_queue(), **(kind if quorum else {}), **(conf or {})}
    name = "rabbitmq-quorum" if quorum else "rabbitmq"
    return Broker(name, server.url(), results.url(next(_databases)), settings, server)


def filesystem_broker(directory: Path, conf: Mapping[str, Any] | None = None) -> Broker:
    """Messages and results in folders; no server at all."""
    places = {name: directory / name for name in ("messages", "processed", "control", "results")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    options = {
        "data_folder_in": str(places["messages"]),
        "data_folder_out": str(places["messages"]),
        "processed_folder": str(places["processed"]),
        "control_folder": str(places["control"]),
        "polling_interval": 0.05,
    }
    settings = {**_own_queue(), "broker_transport_options": options, **(conf or {})}
    return Broker("filesystem", "filesystem://", f"file://{places['results']}", settings)


def _own_queue() -> dict[str, str]:
    return {"task_default_queue": f"q-{uuid.uuid4().hex[:12]}"}
