"""One request: its body, what counts as a response, and what the host's log gets."""

from __future__ import annotations

import gzip
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from sluice_agent.transport.delivery import http
from sluice_agent.transport.delivery.http import HttpClient, Timeouts, UnreachableError, hide_request_logs
from sluice_agent.transport.delivery.shipper import Shipper
from tests.support import misbehaviour
from tests.support.endpoint import Endpoint
from tests.support.waiting import wait_until
from tests.unit.transport.lines import event, write_file

BODY = b'{"events":[' + event(1, filler=2_000) + b"]}"
SMALL = b'{"events":[' + event(2) + b"]}"


@pytest.fixture
def client(endpoint: Endpoint) -> HttpClient:
    """A client of the endpoint, with its key."""
    return client_of(endpoint, Timeouts())


def client_of(endpoint: Endpoint, timeouts: Timeouts) -> HttpClient:
    """Return a client of the endpoint, with its key."""
    return HttpClient(endpoint.url + "/ingest", "sk_test", timeouts=timeouts)


def test_a_body_is_compressed_only_once_the_endpoint_takes_it(endpoint: Endpoint, client: HttpClient) -> None:
    """An endpoint that was never asked would refuse every batch."""
    client.post(BODY, {})
    endpoint.takes_gzip = True
    for body in (BODY, BODY, SMALL):
        assert client.post(body, {}).status == 200
    endpoint.takes_gzip = False
    assert client.post(SMALL, {}).status == 200
    assert client.post(BODY, {}).status == 200
    encodings = [request.headers.get("content-encoding") for request in endpoint.requests]
    assert encodings == [None, None, "gzip", None, None, None]
    assert [request.body for request in endpoint.requests] == [BODY, BODY, BODY, SMALL, SMALL, BODY]
    client.close()


def test_a_compressed_body_is_the_same_at_every_attempt(endpoint: Endpoint, client: HttpClient) -> None:
    """An endpoint that remembers a key's bytes would refuse the second attempt as another request."""
    endpoint.takes_gzip = True
    client.post(SMALL, {})
    client.post(BODY, {})
    assert endpoint.requests[1].raw == gzip.compress(BODY, compresslevel=1, mtime=0)
    client.close()


@pytest.mark.parametrize("behaviour", [misbehaviour.reset_before, misbehaviour.reset_mid_answer])
def test_without_a_whole_answer_there_is_none(
    endpoint: Endpoint, client: HttpClient, behaviour: misbehaviour.Behaviour
) -> None:
    """Half an answer that is taken for one would settle a batch that was not stored."""
    endpoint.script(behaviour)
    with pytest.raises(UnreachableError):
        client.post(BODY, {})
    assert client.post(BODY, {}).status == 200
    client.close()


def test_an_endpoint_that_is_down_is_unreachable_and_found_again(endpoint: Endpoint, client: HttpClient) -> None:
    """The kept connection is dead after the endpoint's restart: the next attempt must open another."""
    assert client.post(BODY, {}).status == 200
    endpoint.down()
    with pytest.raises(UnreachableError):
        client.post(BODY, {})
    endpoint.up()
    assert client.post(BODY, {}).status == 200
    client.close()


@pytest.mark.parametrize("drips", [misbehaviour.drips, misbehaviour.drips_headers])
@pytest.mark.parametrize("is_first", [True, False], ids=["on a new connection", "on a kept one"])
def test_an_answer_that_drips_in_is_cut_off(
    endpoint: Endpoint, drips: Callable[[float], misbehaviour.Behaviour], is_first: bool
) -> None:
    """A proxy that sends a byte now and then, be it of a header, would hold the shipper for ever."""
    client = client_of(endpoint, Timeouts(response=0.3))
    if not is_first:
        assert client.post(SMALL, {}).status == 200
    endpoint.script(drips(0.2))
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="ReadTimeout") as caught:
        client.post(BODY, {})
    assert time.monotonic() - began < 5
    assert caught.value.may_have_arrived
    assert client.post(BODY, {}).status == 200
    client.close()


def test_a_request_that_takes_long_to_send_is_not_cut_off() -> None:
    """On a slow line a large batch would be sent half again and again, and never arrive."""
    body = b"x" * 12_000_000  # half of it is more than what the kernel takes for sent
    server = socket.create_server(("127.0.0.1", 0))

    def read_slowly() -> None:
        connection, _ = server.accept()
        left = len(body)
        while left > 0:
            left -= len(connection.recv(200_000))
            time.sleep(0.02 if left > len(body) // 2 else 0)
        connection.sendall(b"HTTP/1.1 200 Answer\r\nContent-Length: 2\r\n\r\n{}")

    threading.Thread(target=read_slowly, daemon=True).start()
    client = HttpClient(f"http://127.0.0.1:{server.getsockname()[1]}/api/ingest", None, timeouts=Timeouts(response=0.3))
    began = time.monotonic()
    assert client.post(body, {}).body == b"{}"
    assert time.monotonic() - began > 0.4
    client.close()
    server.close()


def test_an_endpoint_that_is_silent_is_given_up(endpoint: Endpoint) -> None:
    """A load balancer without a backend holds the connection and never answers."""
    client = client_of(endpoint, Timeouts(silence=0.2))
    endpoint.script(misbehaviour.hangs())
    with pytest.raises(UnreachableError, match="ReadTimeout"):
        client.post(BODY, {})
    endpoint.release()
    client.close()


def test_an_endless_answer_is_cut_off(endpoint: Endpoint) -> None:
    """A wrong address may serve a video: it must not be read into the worker's memory."""
    client = client_of(endpoint, Timeouts(response_bytes=50_000))
    endpoint.script(misbehaviour.status(200, body=b"x" * 200_000))
    with pytest.raises(UnreachableError, match="too long"):
        client.post(BODY, {})
    client.close()


@pytest.mark.parametrize("proxy", ["foo://127.0.0.1:1", "::"])
def test_an_invalid_proxy_is_reported_as_a_failure(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """The error must be shown by `sluice-agent status`, and its correction must need no restart."""
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(UnreachableError):
        client.post(BODY, {})


@pytest.mark.parametrize(("content", "word"), [(None, "No such file"), ("none", "certificate")])
def test_certificates_that_cannot_be_loaded_are_named(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, word: str
) -> None:
    """ "No such file or directory" alone would not lead anyone to a variable of the image."""
    file = tmp_path / "certificates.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    client = HttpClient(endpoint.url.replace("http:", "https:"), "sk_test")
    with pytest.raises(UnreachableError, match=f"SSL_CERT_FILE is '{file}'.*{word}"):
        client.post(SMALL, {})


def test_without_tls_no_certificates_are_loaded(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker beside a server on the same host would need certificates, and stand still while it loads them."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert client.post(SMALL, {}).status == 200
    client.close()


def test_a_redirect_is_not_followed(endpoint: Endpoint, client: HttpClient) -> None:
    """The key would go to the server that the redirect names."""
    endpoint.script(misbehaviour.status(302, {"Location": endpoint.url + "/ingest"}))
    assert client.post(BODY, {}).status == 302
    assert len(endpoint.requests) == 1
    client.close()


def test_the_shippers_requests_stay_out_of_the_hosts_log(
    ship: Callable[..., Shipper], directory: object, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """A host that logs at DEBUG would find ten lines of ours in its log every second; its own must stay."""
    with caplog.at_level(logging.DEBUG):
        write_file(directory, event(1))  # type: ignore[arg-type]
        ship()
        wait_until(lambda: endpoint.events)
        httpx.get(endpoint.url)
    names = {(record.name.partition(".")[0], record.threadName) for record in caplog.records}
    assert ("httpx", threading.current_thread().name) in names
    assert ("httpcore", threading.current_thread().name) in names
    assert not [name for name, thread in names if thread == http.THREAD_NAME]


def test_a_second_shipper_adds_no_second_filter() -> None:
    """Every forked child starts one: the filters would grow with the worker's age."""
    hide_request_logs()
    before = len(logging.getLogger("httpx").filters)
    hide_request_logs()
    assert len(logging.getLogger("httpx").filters) == before
