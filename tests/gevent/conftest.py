"""Producer, worker, agent and endpoint in the one process of the test, all of it patched by gevent."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery.contrib.testing.worker import start_worker
from gevent import monkey

from tests.integration.outcomes.app import app
from tests.integration.outcomes.send import possible_rows
from tests.integration.outcomes.table import GEVENT, Outcome
from tests.integration.outcomes.table_run import (
    CONCURRENCY,
    REPORT_TIMEOUT,
    TableRun,
    agent_env,
    all_reported,
    collect_run,
)
from tests.support.brokers import redis_broker
from tests.support.endpoint import Endpoint
from tests.support.fixtures import redis_server  # noqa: F401 - a fixture
from tests.support.servers import RedisServer
from tests.support.waiting import POLL_SECONDS


def rows() -> list[Outcome]:
    """Return the rows that one process can run: all of it has the agent."""
    return [row for row in possible_rows(GEVENT, "redis") if not row.without_agent]


@pytest.fixture(scope="session")
def table_run(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TableRun]:  # noqa: F811
    """The whole table, run once in this process."""
    assert monkey.is_module_patched("threading"), "run by: python -m tests.gevent"
    import sluice_agent

    endpoint = Endpoint()
    broker = redis_broker(redis_server, {"task_default_queue": app.conf.task_default_queue})
    os.environ |= {**broker.env(), **agent_env(endpoint, tmp_path_factory.mktemp("gevent"))}
    os.environ["SLUICE_TEST_INSTALL"] = "1"  # for beat, which is a separate process
    app.conf.update(broker.settings())
    sluice_agent.install()
    try:
        with (
            start_worker(app, pool=GEVENT, concurrency=CONCURRENCY, perform_ping_check=False, hostname="gevent@test"),
            ThreadPoolExecutor(CONCURRENCY) as threads,
        ):
            sendable = sorted(rows(), key=lambda row: row.blocks)
            ids = dict(zip([row.name for row in sendable], threads.map(lambda row: row.send(), sendable), strict=True))
            deadline = time.monotonic() + REPORT_TIMEOUT
            while time.monotonic() < deadline and not all_reported(endpoint, broker, GEVENT, ids):
                time.sleep(POLL_SECONDS)
        sluice_agent.flush(10)
        yield collect_run(endpoint, broker, GEVENT, "gevent@test", ids, lambda *_: "")
    finally:
        sluice_agent.shutdown()
        endpoint.close()
