"""The fixtures of every test that needs a real server, worker or producer. A conftest imports them with `import *`.

Servers are started once per test run, by the first conftest that needs them; all else is new in each test.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.brokers import Broker, filesystem_broker, rabbitmq_broker, redis_broker
from tests.support.endpoint import Endpoint
from tests.support.postgresql import new_database, shared_postgresql
from tests.support.producer import Producer
from tests.support.servers import RedisServer
from tests.support.shared_rabbitmq import RabbitMQVhost, shared_rabbitmq
from tests.support.sidecar import Sidecar
from tests.support.worker import APP, WorkerProcess

__all__ = [
    "brokers",
    "new_postgresql",
    "postgresql",
    "postgresql_port",
    "producer",
    "rabbitmq_vhost",
    "redis_server",
    "sluice_env",
    "start_sidecar",
    "start_worker",
    "state_dir",
]

WITHOUT_AGENT = {"SLUICE_TEST_INSTALL": "0"}


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RedisServer:
    """One Redis for all tests of this process; each test has its own database."""
    if _redis not in request.config.stash:
        request.config.stash[_redis] = server = RedisServer(tmp_path_factory.mktemp(RedisServer.name))
        request.config.add_cleanup(server.close)
    return request.config.stash[_redis]


@pytest.fixture(scope="session")
def rabbitmq_vhost(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RabbitMQVhost:
    """One virtual host for all tests of this process, on the RabbitMQ of the whole run; each test has its own queue."""
    if _rabbitmq not in request.config.stash:
        server, number = shared_rabbitmq(tmp_path_factory.getbasetemp())
        request.config.add_cleanup(server.close)
        request.config.stash[_rabbitmq] = server.vhost(number)
    return request.config.stash[_rabbitmq]


@pytest.fixture(scope="session")
def postgresql_port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> int:
    """The port of the PostgreSQL of the whole run."""
    if _postgresql not in request.config.stash:
        server = shared_postgresql(tmp_path_factory.getbasetemp())
        request.config.add_cleanup(server.close)
        request.config.stash[_postgresql] = server.port()
    return request.config.stash[_postgresql]


@pytest.fixture(scope="module")
def postgresql(postgresql_port: int) -> Iterator[str]:
    """The address of a database that the tests of a module share."""
    with new_database(postgresql_port) as address:
        yield address


@pytest.fixture
def new_postgresql(postgresql_port: int) -> Iterator[str]:
    """The address of a new database."""
    with new_database(postgresql_port) as address:
        yield address


@pytest.fixture
def brokers(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Broker]:
    """`brokers(name)`: this test's queue on one of BROKERS; the same queue at each call."""
    known: dict[str, Broker] = {}

    def make(name: str) -> Broker:
        if name == "filesystem":
            return filesystem_broker(tmp_path / "broker")
        redis: RedisServer = request.getfixturevalue("redis_server")
        if name == "redis":
            return redis_broker(redis)
        return rabbitmq_broker(request.getfixturevalue("rabbitmq_vhost"), redis, quorum=name == "rabbitmq-quorum")

    def get(name: str) -> Broker:
        if name not in known:
            known[name] = make(name)
        return known[name]

    return get


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """The state directory of this test."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def sluice_env(endpoint: Endpoint, state_dir: Path) -> dict[str, str]:
    """The agent's settings for this test: a short flush interval, and no heartbeats."""
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
    """`start_worker(app, broker, pool, env, args, …)`: start a worker and wait for it; all end with the test.

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
        broker = _with_conf(brokers, broker, conf)
        workers.append(
            worker := WorkerProcess(
                tmp_path,
                broker,
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
    """`start_sidecar(broker, **env)`: start a monitor and wait until it listens. All are ended with the test."""
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
    """`producer(broker, env)`: make a Producer, whose processes are ended with the test.

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
        broker = _with_conf(brokers, broker, conf)
        producers.append(created := Producer(tmp_path, broker, env=_env(request, env, agent=agent)))
        return created

    yield make
    for created in producers:
        created.close()


def _with_conf(brokers: Callable[[str], Broker], broker: Broker | str, conf: Mapping[str, Any] | None) -> Broker:
    broker = brokers(broker) if isinstance(broker, str) else broker
    return broker.with_conf(**conf) if conf else broker


def _env(request: pytest.FixtureRequest, env: Mapping[str, str] | None, *, agent: bool) -> dict[str, str]:
    base: dict[str, str] = request.getfixturevalue("sluice_env") if agent else WITHOUT_AGENT
    return {**base, **(env or {})}


_redis: pytest.StashKey[RedisServer] = pytest.StashKey()
_rabbitmq: pytest.StashKey[RabbitMQVhost] = pytest.StashKey()
_postgresql: pytest.StashKey[int] = pytest.StashKey()
