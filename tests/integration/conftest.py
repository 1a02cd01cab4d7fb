"""pytest-celery without containers: its cluster fixtures over local servers and real worker processes.

A test that requests `celery_setup` runs on every broker × pool. It narrows the matrix with
`@pytest.mark.parametrize("broker_name", ["redis"])` or `("pool", ["prefork"])`, and shapes the worker with
`@pytest.mark.parametrize("worker_options", [{"args": ["--max-tasks-per-child=1"]}])`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, CeleryTestSetup, CeleryWorkerCluster
from pytest_celery.plugin import *  # noqa: F403 - its fixtures, which pyproject.toml keeps out of other tests

from tests.support.brokers import BROKERS, Broker
from tests.support.fixtures import *  # noqa: F403 - a fixture is found by its name in this module
from tests.support.pytest_celery_nodes import LocalBackend, LocalBroker, LocalWorker
from tests.support.worker import POOLS, WorkerProcess

os.environ["SLUICE_TEST_INSTALL"] = "0"  # the shared tasks are registered in the test process, the agent is not
from tests.integration import tasks


@pytest.fixture(params=BROKERS)
def broker_name(request: pytest.FixtureRequest) -> str:
    """Each broker in turn."""
    return request.param


@pytest.fixture(params=POOLS)
def pool(request: pytest.FixtureRequest) -> str:
    """Each pool in turn."""
    return request.param


@pytest.fixture
def broker(brokers: Callable[[str], Broker], broker_name: str) -> Broker:
    """The broker that `celery_setup` runs on."""
    return brokers(broker_name)


@pytest.fixture
def worker_options() -> dict[str, Any]:
    """Arguments of `start_worker` for `celery_setup`'s worker, beside broker and pool."""
    return {}


@pytest.fixture
def celery_broker_cluster(broker: Broker) -> Iterator[CeleryBrokerCluster]:
    """One broker."""
    yield (cluster := CeleryBrokerCluster(node := LocalBroker(broker)))
    node.teardown()
    cluster.teardown()


@pytest.fixture
def celery_backend_cluster(broker: Broker) -> Iterator[CeleryBackendCluster]:
    """One backend."""
    yield (cluster := CeleryBackendCluster(node := LocalBackend(broker)))
    node.teardown()
    cluster.teardown()


@pytest.fixture
def celery_worker_cluster(
    celery_broker_cluster: CeleryBrokerCluster,
    celery_backend_cluster: CeleryBackendCluster,
    celery_setup_app: Celery,
    start_worker: Callable[..., WorkerProcess],
    broker: Broker,
    pool: str,
    worker_options: dict[str, Any],
) -> Iterator[CeleryWorkerCluster]:
    """One worker, ready."""
    worker = start_worker(broker=broker, pool=pool, **worker_options)
    yield (cluster := CeleryWorkerCluster(LocalWorker(worker, celery_setup_app)))
    cluster.teardown()


@pytest.fixture
def celery_setup_app(
    celery_setup_cls: type[CeleryTestSetup], celery_setup_config: dict[str, Any], celery_setup_name: str, broker: Broker
) -> Iterator[Celery]:
    """pytest-celery's client app with this test's queue; current while the test runs: `add.delay()` uses it."""
    app = celery_setup_cls.create_setup_app(celery_setup_config, celery_setup_name)
    app.conf.update(broker.conf)
    app.set_current()
    yield app
    app.close()
    tasks.app.set_current()
