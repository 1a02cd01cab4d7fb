"""The processes of a test run use one server, each of them another virtual host."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.process import Process, listens
from tests.support.servers import Server
from tests.support.shared_rabbitmq import SharedRabbitMQ


class Listener(Server):
    """A server that only listens, in place of RabbitMQ, which needs seconds to start."""

    name = "listener"
    start_seconds = stop_seconds = 10.0
    started = 0

    def _spawn(self, log: Path) -> Process:
        Listener.started += 1
        code = f"import socket, time; s = socket.create_server(('127.0.0.1', {self.port})); time.sleep(600)"
        return Process([sys.executable, "-c", code], log)


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SharedRabbitMQ]]:
    """The shares of three processes of one test run."""
    monkeypatch.setattr(Listener, "started", 0)
    with ExitStack() as stack:
        shares = [SharedRabbitMQ(tmp_path, 4, lambda directory, _: Listener(directory)) for _ in range(3)]
        for share in shares:
            stack.callback(share.close)
        yield shares


def test_the_first_starts_it_and_the_others_use_it(processes: list[SharedRabbitMQ]) -> None:
    """A second RabbitMQ would take fifteen seconds; monitors on one virtual host would receive others' events."""
    found = [share.vhost(number) for number, share in enumerate(processes)]
    assert Listener.started == 1
    assert len({vhost.port for vhost in found}) == 1
    assert len({vhost.url() for vhost in found}) == 3
    for share in reversed(processes):
        share.close()
    assert not listens(found[0].port)


def test_it_ends_when_no_process_uses_it(processes: list[SharedRabbitMQ]) -> None:
    """The process that started it may run out of tests first: the tests of the others would lose their broker."""
    starter, other, late = processes
    port = starter.vhost(0).port
    other.vhost(1)
    with ThreadPoolExecutor(2) as threads:
        closing = threads.submit(starter.close)
        with pytest.raises(NotYet):
            closing.result(0.5)
        joining = threads.submit(late.vhost, 2)
        assert listens(port)
        other.close()
        closing.result(20)
        assert not listens(port)
        assert listens(joining.result(20).port), "a process that comes late starts another"
    assert Listener.started == 2
