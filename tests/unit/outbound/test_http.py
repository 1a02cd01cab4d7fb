"""One POST to an endpoint that behaves, and to ones that do not."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from sluice_agent.outbound.deadline import Watchdog
from sluice_agent.outbound.http import Answer, NoAnswerError, Reading, Timeouts, authorities, post
from tests.support.certificate import self_signed
from tests.support.misbehaviour import (
    Behaviour,
    drips,
    drips_headers,
    hangs,
    reset_before,
    reset_mid_answer,
    status,
    too_many,
)
from tests.support.webhook_receiver import WebhookReceiver


@pytest.fixture(scope="module")
def shared() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()
    yield receiver
    receiver.down()


@pytest.fixture
def receiver(shared: WebhookReceiver) -> Iterator[WebhookReceiver]:
    """The endpoint of the module, with no script and no requests."""
    shared.requests.clear()
    shared.unscript()
    yield shared
    shared.release()


def send(receiver: WebhookReceiver, exchange: float = 20.0, host: str = "127.0.0.1") -> Answer:
    url = f"http://{host}:{receiver.port}/hook?a=b"
    timeouts = Timeouts(exchange=exchange)
    addresses: Callable[[str, int], list[str]] = lambda *_: ["127.0.0.1"]  # noqa: E731
    return post(url, b"{}", {"webhook-id": "x"}, allows_private=True, timeouts=timeouts, look_up=addresses)


def test_the_request_goes_to_the_address_that_was_checked(receiver: WebhookReceiver) -> None:
    """A name that resolves anew as it is requested would lead into the network that the check keeps out."""
    answer = send(receiver, host="hooks.invalid")  # nothing else could find this name
    [request] = receiver.requests
    assert answer.status == 200
    assert request.headers["host"] == f"hooks.invalid:{receiver.port}"
    assert (request.path, request.headers["webhook-id"], request.raw) == ("/hook?a=b", "x", b"{}")


def test_a_certificate_is_that_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers under another name's address would be sent payloads and tokens."""
    secure = WebhookReceiver(tls=self_signed(tmp_path, "DNS:hooks.invalid"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    authorities.cache_clear()

    def ask(host: str) -> Answer:
        url = f"https://{host}:{secure.port}/hook"
        return post(url, b"{}", {}, allows_private=True, look_up=lambda *_: ["127.0.0.1"])

    answer = ask("hooks.invalid.")  # with the root's dot, which certificates have not
    assert (answer.status, secure.requests[0].raw) == (200, b"{}")
    assert 0 < answer.timing.tls < answer.timing.first_byte
    with pytest.raises(NoAnswerError, match="CERTIFICATE_VERIFY_FAILED"):
        ask("others.invalid")
    assert len(secure.requests) == 1
    authorities.cache_clear()
    secure.close()


def test_the_next_address_is_tried(receiver: WebhookReceiver) -> None:
    """An endpoint of two machines would be away while one of them is."""
    url = f"http://hooks.invalid:{receiver.port}/"
    addresses = ["127.0.0.2", "::1", "127.0.0.1"]  # nothing listens at the first two
    assert post(url, b"{}", {}, allows_private=True, look_up=lambda *_: addresses).status == 200


@contextmanager
def answering(sent: bytes, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Run an endpoint that sends these bytes after the beginning of one request, and yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            with connection, suppress(OSError):  # who reads no more has closed it
                connection.recv(1_000)
                connection.sendall(sent)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.getsockname()[1]}/"
        thread.join()


@pytest.mark.parametrize(
    ("sent", "status", "body"),
    [
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 413 Too Large\r\nX-A: 1\r\nX-A: 2\r\n\r\nto the end", 413, b"to the end"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nX-B: 1\r\n\r\n",
            200,
            b"abc",
        ),
        (b"HTTP/1.0 200 OK\nContent-Length: 2\n\nok", 200, b"ok"),
    ],
)
def test_an_answer_of_any_form_is_read(sent: bytes, status: int, body: bytes) -> None:
    """What an endpoint, or a proxy before it, answers would be no answer."""
    with answering(sent) as url:
        found = post(url, b"{}", {}, allows_private=True, reading=Reading(success=1_000, is_required=True))
    assert (found.status, found.body) == (status, body)
    assert found.headers.get("x-a") in (None, "1, 2")


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "the endpoint has closed the connection without an answer"),
        (b"HTTP/1.1 200", "the endpoint has closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 200_000, "RemoteProtocolError: Receive buffer too long"),
        (b"HTTP/1.1 200 OK\r\nX-Repeated: a secret\x00\r\n\r\n", "RemoteProtocolError: illegal header line"),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 200, "RemoteProtocolError: too many informational responses"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_001,
            "RemoteProtocolError: too many chunks",
        ),
    ],
    ids=["nothing", "half", "long head", "no header", "no end of heads", "small chunks"],
)
def test_an_answer_that_is_none_has_a_reason(sent: bytes, reason: str) -> None:
    """One endpoint would stop all attempts of a worker, put a secret into the run's error, or nobody see its fault."""
    reading = Reading(success=1_000_000, is_required=True)
    with answering(sent) as url, pytest.raises(NoAnswerError) as caught:
        post(url, b"{}", {}, allows_private=True, reading=reading)
    assert (str(caught.value), caught.value.cause) == (reason, "network")


@pytest.mark.parametrize("has_tls", [False, True])
def test_an_answer_before_the_end_of_the_body_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_tls: bool
) -> None:
    """A body that is too large would be sent again and again, as the refusal was not read."""
    tls = self_signed(tmp_path, "IP:127.0.0.1") if has_tls else None
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    authorities.cache_clear()
    with answering(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno", tls) as url:
        assert post(url, b"x" * 20_000_000, {}, allows_private=True).text == "no"
    authorities.cache_clear()


def test_redirects_are_not_followed(receiver: WebhookReceiver) -> None:
    """A public endpoint could send the server to an inner address."""
    receiver.script(status(307, {"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"}))
    assert send(receiver).status == 307
    assert len(receiver.requests) == 1


def test_what_the_next_attempt_needs_is_read(receiver: WebhookReceiver) -> None:
    """A busy endpoint would be asked again at once, and nobody would see why a webhook fails."""
    receiver.script(too_many("77"), status(500, body="x" * 100_000))
    first, second = send(receiver), send(receiver)
    assert (first.status, first.retry_after) == (429, "77")
    assert (second.status, second.text) == (500, "x" * 1_000)


@pytest.mark.parametrize("behaviour", [hangs(), drips_headers(0.05), reset_before])
def test_a_bad_endpoint_is_given_up(receiver: WebhookReceiver, behaviour: Behaviour) -> None:
    """An endpoint that sends a byte now and then would hold a thread of the server for ever."""
    receiver.script(behaviour)
    begin = time.monotonic()
    with pytest.raises(NoAnswerError):
        send(receiver, exchange=0.3)
    assert time.monotonic() - begin < 5


def test_the_body_of_a_success_is_not_waited_for(receiver: WebhookReceiver) -> None:
    """A delivery that was taken would be sent again, as its answer was slow."""
    receiver.script(drips(0.002))
    assert send(receiver).status == 200


def test_no_proxy_of_the_environment_is_used(receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would look the name up itself, so that the check of its address had no effect."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert send(receiver, host="hooks.invalid").status == 200


def test_an_address_that_may_not_be_requested_gets_nothing(receiver: WebhookReceiver) -> None:
    """Whoever sets a URL would reach services inside."""
    with pytest.raises(NoAnswerError, match=r"127\.0\.0\.1 is a private address"):
        post(receiver.hook, b"{}", {}, allows_private=False)
    assert receiver.requests == []


def test_a_refused_connection_is_reported() -> None:
    """An operator could not see that nothing listens there."""
    closed = WebhookReceiver()
    closed.down()
    with pytest.raises(NoAnswerError, match="refused"):
        post(closed.hook, b"{}", {}, allows_private=True)


def test_a_body_is_read_up_to_its_limit(receiver: WebhookReceiver) -> None:
    """An endpoint that answers without end would fill the memory, or a result be cut off without a sign."""
    receiver.script(status(200, body="x" * 1_000), status(200, body="x" * 1_001), status(500, body="x" * 1_001))
    reading = Reading(success=1_000, error=10, is_required=True)
    answers = [post(receiver.hook, b"{}", {}, allows_private=True, reading=reading) for _ in range(3)]
    assert [(len(answer.body), answer.is_cut) for answer in answers] == [(1_000, False), (1_000, True), (10, True)]


def test_a_required_body_that_breaks_off_is_no_answer(receiver: WebhookReceiver) -> None:
    """Half a result would be stored as the result."""
    receiver.script(reset_mid_answer)
    with pytest.raises(NoAnswerError) as caught:
        post(receiver.hook, b"{}", {}, allows_private=True, reading=Reading(success=1_000, is_required=True))
    assert caught.value.cause == "network"


def test_requests_are_not_logged(receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture) -> None:
    """Each request would be a line in the log of a worker, with a URL that may be a secret of its receiver."""
    with caplog.at_level("DEBUG"):
        send(receiver)
        assert caplog.text == ""
        httpx.get(f"http://127.0.0.1:{receiver.port}/", trust_env=False)
    assert "HTTP Request" in caplog.text, "those of others are"


def test_a_look_up_ends_at_the_deadline(receiver: WebhookReceiver) -> None:
    """A name server that does not answer would hold an exchange for half a minute."""
    released = threading.Event()
    begin = time.monotonic()
    with pytest.raises(NoAnswerError) as caught:
        post(
            "http://hooks.invalid/", b"", {}, allows_private=True, timeouts=Timeouts(exchange=0.2),
            look_up=lambda *_: [str(released.wait(30))],
        )  # fmt: skip
    released.set()
    assert caught.value.cause == "deadline"
    assert time.monotonic() - begin < 5


def test_the_deadline_of_a_watchdog_is_the_only_one(receiver: WebhookReceiver) -> None:
    """A job with timeout_secs 600 would end after the seconds that are enough for others."""
    receiver.script(drips(0.01))
    with Watchdog(600) as watchdog:
        timeouts = Timeouts(exchange=0.1)
        answer = post(receiver.hook, b"{}", {}, allows_private=True, timeouts=timeouts, watchdog=watchdog)
    assert answer.status == 200


def test_times_of_an_exchange_are_measured(receiver: WebhookReceiver) -> None:
    """A slow endpoint could not be told from a slow network."""
    receiver.script(drips(0.002))
    timing = post(receiver.hook, b"{}", {}, allows_private=True, reading=Reading(success=1_000)).timing
    assert 0 < timing.connect < 1
    assert timing.first_byte > 0.1  # a head of about eighty bytes
    assert timing.transfer > 0.04
