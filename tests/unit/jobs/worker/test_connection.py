"""The connection of a worker to its server: kept open, and through the proxies of the environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sluice_agent.jobs.worker.connection import Connection, UnreachableError
from tests.support.endpoint import running
from tests.support.misbehaviour import status
from tests.support.proxy import Proxy
from tests.support.webhook_receiver import WebhookReceiver

HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer sk_test"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookReceiver]:
    """A server; no proxy is in the environment."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with running(WebhookReceiver()) as server:
        yield server


def test_a_connection_that_the_server_has_closed_is_replaced(server: WebhookReceiver) -> None:
    """The first run after a pause would wait, and the log fill with servers that are away."""
    connection = Connection(server.url)
    for number in range(3):
        assert connection.post("/start", b"{}", HEADERS).status == 200
        if number:
            server.down()
            server.up()
    assert [request.path for request in server.requests] == ["/api/start"] * 3
    assert server.requests[0].headers["authorization"] == "Bearer sk_test"


def test_what_is_no_answer_has_a_reason(server: WebhookReceiver) -> None:
    """An exception of another kind would end the attempt, and its run wait until it is taken for lost."""
    connection = Connection(server.url)
    server.script(status(409, body="{}"))
    assert connection.post("/start", b"{}", HEADERS) == (409, b"{}")
    with pytest.raises(UnreachableError):
        Connection("http://127.0.0.1:1/api").post("/start", b"{}", HEADERS)
    with pytest.raises(UnreachableError, match="no address of HTTP"):
        Connection("ftp://127.0.0.1/api").post("/start", b"{}", HEADERS)


@pytest.mark.parametrize("bypass", ["", "example.com"])
def test_a_proxy_of_the_environment_is_used(
    server: WebhookReceiver, monkeypatch: pytest.MonkeyPatch, bypass: str
) -> None:
    """A worker behind a company's proxy would execute nothing, though its agent reports."""
    proxy = Proxy(server.port)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", bypass)
    connection = Connection("http://jobs.example.com/api")
    if bypass:
        with pytest.raises(UnreachableError):
            connection.post("/start", b"{}", HEADERS)
    else:
        assert [connection.post("/start", b"{}", HEADERS).status for _ in range(2)] == [200, 200]
    assert proxy.targets == [] if bypass else ["http://jobs.example.com/api/start"] * 2
    proxy.close()


def test_a_proxy_that_can_not_be_used_is_named(server: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason would be a protocol error, in which nobody sees a proxy."""
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(UnreachableError, match="NO_PROXY"):
        Connection("http://jobs.example.com/api").post("/start", b"{}", HEADERS)
