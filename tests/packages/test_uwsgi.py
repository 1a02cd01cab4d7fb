"""uWSGI with its ways of forking: what a site publishes is delivered. `make packages` builds its versions.

Under 2.0.26 Python's threads run only if that is set; since 2.0.27 they do.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.accounting import assert_balanced
from tests.support.endpoint import Endpoint
from tests.support.process import ROOT, Process, free_port, listens
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until

OLD, NEW = os.environ.get("UWSGI", "2.0.26 2.0.31").split()
WAYS = {
    "preforking": (),
    "preforking with a master": ("--master",),
    "lazy-apps": ("--master", "--lazy-apps"),
    "enable-threads": ("--master", "--enable-threads"),
    "threads": ("--master", "--threads", "2"),
    "without a fork": ("--processes", "1"),
}
HAS_THREADS = {(OLD, "enable-threads"), (OLD, "threads"), *((NEW, way) for way in WAYS)}
SITE = """
import time

import sluice_agent
import uwsgi
from celery import Celery

sluice_agent.install()
app = Celery("shop", broker={broker!r})


@app.task(name="shop.order")
def order(place):
    pass


order.delay("as the site loads")


def application(environ, start_response):
    job = order.delay("in a request")
    time.sleep(0.05)  # so that another process takes the next one
    start_response("200 OK", [])
    return [f"{{uwsgi.worker_id()}} {{job.id}}".encode()]
"""


class Site:
    """A site under uWSGI: two processes, unless the way is another."""

    def __init__(self, version: str, way: str, directory: Path, env: dict[str, str]) -> None:
        venv = ROOT / f".venv-uwsgi-{version}"
        if not (venv / "bin" / "uwsgi").exists():
            pytest.skip(f"{venv.name} is missing: make packages")
        self.port = free_port()
        options = ("--need-app", "--die-on-term", "--processes", "2", *WAYS[way])
        self.process = Process(
            [
                *(str(venv / "bin" / "uwsgi"), "--virtualenv", str(venv), "--http-socket", f"127.0.0.1:{self.port}"),
                *("--wsgi-file", str(directory / "site.py"), *options),
            ],
            directory / "uwsgi.log",
            env,
        )
        wait_until(lambda: listens(self.port), 60, "uWSGI does not listen", self.process.tail)

    def request(self, _: int) -> tuple[str, str]:
        """Send a request; return the number of the process that has answered, and the id of the job."""
        worker, job = httpx.get(f"http://127.0.0.1:{self.port}/", trust_env=False, timeout=60).text.split()
        return worker, job


@pytest.fixture
def start(
    redis_server: RedisServer, sluice_env: dict[str, str], tmp_path: Path
) -> Iterator[Callable[[str, str], Site]]:
    """`start(version, way)`: start a site."""
    sites = []
    (tmp_path / "site.py").write_text(SITE.format(broker=redis_server.url(15)))

    def start(version: str, way: str) -> Site:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        sites.append(site := Site(version, way, tmp_path, {**kept, "PYTHONPATH": str(ROOT), **sluice_env}))
        return site

    yield start
    for site in sites:
        site.process.stop()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", [OLD, NEW])
def test_what_a_site_publishes_is_delivered(
    start: Callable[[str, str], Site], version: str, way: str, endpoint: Endpoint, sluice_env: dict[str, str]
) -> None:
    """A site's jobs that no worker ever takes would not be seen; or its first request would hang, as its fork did."""
    site = start(version, way)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(site.request, range(16)))
    jobs, workers = [job for _, job in answers], Counter(worker for worker, _ in answers)
    assert len(workers) == (1 if way == "without a fork" else 2), "each process publishes"
    if (version, way) not in HAS_THREADS:
        assert "uWSGI runs no Python threads without enable-threads" in site.process.logs()
        assert endpoint.events == []
        assert assert_balanced(sluice_env)["pending"] >= len(jobs)
        return
    wait_until(lambda: all(endpoint.states(job) == ["queued"] for job in jobs), 30, "not all", site.process.tail)
    loads = 2 if way == "lazy-apps" else 1
    wait_until(lambda: len(endpoint.jobs()) == len(jobs) + loads, 30, "not what the site publishes as it loads")
    site.process.send(signal.SIGTERM)
    site.process.wait()
    assert assert_balanced(sluice_env, endpoint)["pending"] == 0
