"""A web server that loads the application and the agent before it forks: `gunicorn --preload`."""

from __future__ import annotations

import signal
import urllib.request

from tests.faults.host import Host
from tests.support.process import Process, free_port, listens
from tests.support.waiting import wait_until


def test_events_of_a_preloaded_server_arrive(host: Host) -> None:
    """Without it a site does not report the jobs that it publishes, or its processes hang at their start or end.

    The server's main process ships when it forks. Its workers are recycled, and one is killed, in between.
    """
    port = free_port()
    options = ("--preload", "--workers=2", "--max-requests=15", f"--bind=127.0.0.1:{port}")
    server = host.start("-m", "gunicorn", *options, "tests.faults.web:application")
    wait_until(lambda: listens(port) and len(server.children()) >= 2, 30, "it does not listen", server.tail)
    assert host.shipper() == server.pid
    first = {child.pid for child in server.children()}
    jobs = [request(port) for _ in range(40)]
    killed = max(server.children(), key=lambda child: child.create_time())
    killed.kill()
    jobs += [request(port) for _ in range(40)]
    assert {child.pid for child in server.children()}.isdisjoint(first), "no worker was recycled"
    wait_until(
        lambda: all(host.endpoint.states(job) == ["queued"] for job in jobs), 20, "a job is missing", server.tail
    )
    stop(server)
    host.ship_once()
    assert host.settled(killed=1)["captured"] >= 81
    assert host.endpoint.duplicates == []


def request(port: int) -> str:
    """Return the id of the task that a request has published; retry if a worker was killed during the request."""

    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
            text: str = response.read().decode()
            return text

    return wait_until(get, 20, "no request is answered")


def stop(server: Process) -> None:
    """Stop the server, as a deployment does: within seconds."""
    server.send(signal.SIGTERM)
    assert server.wait(10) == 0, server.tail()
