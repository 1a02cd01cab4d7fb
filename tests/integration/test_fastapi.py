"""examples/fastapi_app under uvicorn and gunicorn with workers: what requests publish is reported."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.brokers import Broker
from tests.support.endpoint import Endpoint
from tests.support.process import Process, free_port, listens
from tests.support.waiting import wait_until
from tests.support.worker import python_env

APP = "examples.fastapi_app.main:app"
SERVERS = {
    "uvicorn": ("uvicorn", "--workers", "2", "--log-level", "warning", "--port"),
    "gunicorn": ("gunicorn", "--workers", "2", "--worker-class", "uvicorn.workers.UvicornWorker", "--bind"),
}


@pytest.mark.parametrize("server", SERVERS)
def test_a_site_with_workers_reports_what_it_publishes(
    server: str, brokers: Callable[[str], Broker], sluice_env: dict[str, str], endpoint: Endpoint, tmp_path: Path
) -> None:
    """A job that no worker ever takes would not be seen; with a thread from before the fork, a request could hang."""
    broker, port = brokers("redis"), free_port()
    address = f"127.0.0.1:{port}" if server == "gunicorn" else str(port)
    env = python_env(broker, {**sluice_env, "BROKER_URL": broker.url})
    process = Process([sys.executable, "-m", *SERVERS[server], address, APP], tmp_path / "server.log", env)
    try:
        wait_until(lambda: listens(port), 60, "the site does not listen", process.tail)
        with httpx.Client(trust_env=False, timeout=30) as client:
            jobs = [client.post(f"http://127.0.0.1:{port}/orders/{n}").json()["job"] for n in range(8)]
        wait_until(lambda: [endpoint.states(job) for job in jobs] == [["queued"]] * 8, 30, "not all", process.tail)
        process.send(signal.SIGTERM)
        process.wait()
    finally:
        process.stop()
