"""The deadline of an exchange, in threads and with gevent, against endpoints that never come to an end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sluice_agent.outbound.deadline import Watchdog
from tests.support.misbehaviour import drips, drips_headers, hangs, hangs_in_body, on_path, status
from tests.support.process import ROOT
from tests.support.webhook_receiver import WebhookReceiver

SECONDS = 2.0


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookReceiver]:
    """An endpoint that has one way of not ending on each path."""
    receiver = WebhookReceiver()
    receiver.standing(
        on_path("/never", hangs()),
        on_path("/abort", hangs()),
        on_path("/slow-headers", drips_headers(1.0)),
        on_path("/slow-body", drips(0.5)),
        on_path("/body", hangs_in_body()),
        on_path("/endless", hangs_in_body(has_length=False)),
        on_path("/good", status(200, body="good")),
    )
    yield receiver
    receiver.release()
    receiver.down()


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and never sends a byte, so that no TLS begins."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.alone
@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_every_exchange_ends_at_its_deadline(receiver: WebhookReceiver, silent: int, pool: str) -> None:
    """An endpoint that sends a byte a second would hold a slot of a worker for ever."""
    base = f"http://127.0.0.1:{receiver.port}"
    expected = {
        f"{base}/never": "deadline",
        f"{base}/abort": "aborted",
        f"{base}/slow-headers": "deadline",
        f"{base}/slow-body": "deadline",
        f"{base}/body": "deadline",
        f"{base}/endless": "deadline",
        f"https://127.0.0.1:{silent}/": "deadline",
        f"{base}/good": "good",
    }
    command = [sys.executable, "-m", "tests.support.exchanges", pool, str(SECONDS), *expected]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    found = dict(zip(expected, json.loads(run.stdout), strict=True))
    assert {url: outcome for url, (outcome, _) in found.items()} == expected
    assert all(seconds < SECONDS + 1 for _, seconds in found.values())
    assert all(seconds >= SECONDS - 0.1 for outcome, seconds in found.values() if outcome == "deadline")
    assert found[f"{base}/abort"][1] < SECONDS - 0.5


def test_a_socket_is_shut_that_is_watched_too_late() -> None:
    """A connection that is made just as the time is over would stay open, and its exchange hang."""
    first, second = socket.socketpair()
    with first, second, Watchdog(60) as watchdog:
        watchdog.abort()
        watchdog.watch(first)
        assert second.recv(1) == b""


def test_nothing_is_shut_after_the_exchange() -> None:
    """A number of a closed socket belongs to the next connection, which an old deadline would cut."""
    first, second = socket.socketpair()
    with first, second:
        with Watchdog(60) as watchdog:
            watchdog.watch(first)
        watchdog.abort()
        second.send(b"x")
        assert first.recv(1) == b"x"
        assert watchdog.ended_by is None
