"""The fixtures of every test that needs something real. A conftest makes them its own with `import *`.

Servers are started once per run, whichever conftest asks first; everything else is fresh in each test.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.brokers import Broker, filesystem_broker, rabbitmq_broker, redis_broker
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.servers import RabbitMQServer, RedisServer, Server
from tests.support.sidecar import Sidecar
from tests.support.worker import APP, WorkerProcess

__all__ = [
    "brokers",
    "endpoint",
    "producer",
    "rabbitmq_server",
    "redis_server",
    "sluice_env",
    "start_sidecar",
    "start_worker",
    "state_dir",
]

S = TypeVar("S", bound=Server)

WITHOUT_AGENT = {"SLUICE_TEST_INSTALL": "0"}


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RedisServer:
    """One Redis for the whole run; tests have databases of their own."""
    return _shared(request.config, RedisServer, tmp_path_factory)


@pytest.fixture(scope="session")
def rabbitmq_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RabbitMQServer:
    """One RabbitMQ for the whole run; tests have queues of their own."""
    return _shared(request.config, RabbitMQServer, tmp_path_factory)


@pytest.fixture
def brokers(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Broker]:
    """`brokers(name)`: this test's queue on one of BROKERS; the same queue each time it is asked."""
    known: dict[str, Broker] = {}

    def make(name: str) -> Broker:
        if name == "filesystem":
            return filesystem_broker(tmp_path / "broker")
        redis: RedisServer = request.getfixturevalue("redis_server")
        if name == "redis":
            return redis_broker(redis)
        return rabbitmq_broker(request.getfixturevalue("rabbitmq_server"), redis, quorum=name == "rabbitmq-quorum")

    def get(name: str) -> Broker:
        if name not in known:
            known[name] = make(name)
        return known[name]

    return get


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A fresh ingest endpoint. When the test is over, nothing that it was sent may have broken the contract."""
    server = Endpoint()
    yield server
    server.close()
    assert server.faults == [], server.faults[:5]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """Where this test's journal lies."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def sluice_env(endpoint: Endpoint, state_dir: Path) -> dict[str, str]:
    """The agent's settings for this test: quick to send, and silent unless something happens."""
    return {
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": str(uuid.uuid4()),
        "SLUICE_API_URL": endpoint.url,
        "SLUICE_STATE_DIR": str(state_dir),
        "SLUICE_FLUSH_INTERVAL": "0.1",
        "SLUICE_HEARTBEAT_INTERVAL": "0",
    }


@pytest.fixture
def start_worker(
    request: pytest.FixtureRequest, brokers: Callable[[str], Broker], tmp_path: Path
) -> Iterator[Callable[..., WorkerProcess]]:
    """`start_worker(app, broker, pool, env, args, …)`: a worker that is ready; all are ended with the test.

    `broker` is a name, or a Broker. `env` is added to `sluice_env`; `agent=False` leaves the agent out.
    """
    workers: list[WorkerProcess] = []

    def start(
        app: str = APP,
        broker: Broker | str = "redis",
        pool: str = "prefork",
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        *,
        agent: bool = True,
        conf: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> WorkerProcess:
        place = _with_conf(brokers, broker, conf)
        workers.append(
            worker := WorkerProcess(
                tmp_path,
                place,
                app=app,
                pool=pool,
                env=_env(request, env, agent=agent),
                args=args,
                wait=False,
                **options,
            )
        )
        worker.ready()
        return worker

    yield start
    for worker in workers:
        worker.teardown()


@pytest.fixture
def start_sidecar(
    sluice_env: dict[str, str], brokers: Callable[[str], Broker], tmp_path: Path
) -> Iterator[Callable[..., Sidecar]]:
    """`start_sidecar(broker, **env)`: a monitor that listens; all are ended with the test."""
    sidecars: list[Sidecar] = []

    def start(broker: str = "redis", **env: str) -> Sidecar:
        sidecars.append(sidecar := Sidecar(tmp_path, brokers(broker), {**sluice_env, **env}))
        return sidecar

    yield start
    for sidecar in sidecars:
        sidecar.stop()


@pytest.fixture
def producer(
    request: pytest.FixtureRequest, brokers: Callable[[str], Broker], tmp_path: Path
) -> Iterator[Callable[..., Producer]]:
    """`producer(broker, env)`: a Producer; its processes are ended with the test.

    `broker` is a name, or a Broker. `env` is added to `sluice_env`; `agent=False` leaves the agent out.
    """
    producers: list[Producer] = []

    def make(
        broker: Broker | str = "redis",
        env: Mapping[str, str] | None = None,
        *,
        agent: bool = True,
        conf: Mapping[str, Any] | None = None,
    ) -> Producer:
        place = _with_conf(brokers, broker, conf)
        producers.append(made := Producer(tmp_path, place, env=_env(request, env, agent=agent)))
        return made

    yield make
    for made in producers:
        made.close()


def _with_conf(brokers: Callable[[str], Broker], broker: Broker | str, conf: Mapping[str, Any] | None) -> Broker:
    place = brokers(broker) if isinstance(broker, str) else broker
    return place.with_conf(**conf) if conf else place


def _env(request: pytest.FixtureRequest, env: Mapping[str, str] | None, *, agent: bool) -> dict[str, str]:
    base: dict[str, str] = request.getfixturevalue("sluice_env") if agent else WITHOUT_AGENT
    return {**base, **(env or {})}


_servers: pytest.StashKey[dict[type[Server], Server]] = pytest.StashKey()


def _shared(config: pytest.Config, kind: type[S], directories: pytest.TempPathFactory) -> S:
    """The run's one server of a kind, which ends with the run."""
    running = config.stash.setdefault(_servers, {})
    if kind not in running:
        server = kind(directories.mktemp(kind.name))
        config.add_cleanup(server.close)
        running[kind] = server
    found = running[kind]
    assert isinstance(found, kind)
    return found
