"""A web server that loads the application, and with it the agent, before it forks: `gunicorn --preload`."""

from __future__ import annotations

import signal
import urllib.request

from tests.faults.host import Host
from tests.support.process import Process, free_port, listens
from tests.support.waiting import wait_until


def test_what_a_preloaded_server_publishes_arrives(host: Host) -> None:
    """Without it a site tells nothing of the jobs that it publishes, or its processes hang as they begin or end.

    The server's main process ships when it forks. Its workers are recycled, and one is killed, in mid-stream.
    """
    port = free_port()
    options = ("--preload", "--workers=2", "--max-requests=15", f"--bind=127.0.0.1:{port}")
    server = host.start("-m", "gunicorn", *options, "tests.faults.web:application")
    wait_until(lambda: listens(port) and len(server.children()) >= 2, 30, "it does not listen", server.tail)
    assert host.shipper() == server.pid
    first = {child.pid for child in server.children()}
    jobs = [ask(port) for _ in range(40)]
    killed = max(server.children(), key=lambda child: child.create_time())
    killed.kill()
    jobs += [ask(port) for _ in range(40)]
    assert {child.pid for child in server.children()}.isdisjoint(first), "no worker was recycled"
    wait_until(
        lambda: all(host.endpoint.states(job) == ["queued"] for job in jobs), 20, "a job is missing", server.tail
    )
    stop(server)
    host.ship_once()
    assert host.settled(killed=1)["captured"] >= 81
    assert host.endpoint.duplicates == []


def ask(port: int) -> str:
    """The id of the task that a request has published; another request where a worker was killed over the first."""

    def asked() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    return wait_until(asked, 20, "no request is answered")


def stop(server: Process) -> None:
    """A deployment: it waits for nobody for long."""
    server.send(signal.SIGTERM)
    assert server.wait(10) == 0, server.tail()
