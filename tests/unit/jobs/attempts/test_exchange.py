"""The requests of one attempt, to endpoints that behave and to ones that do not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sluice_agent.jobs.attempts.answers import ErrorClass
from sluice_agent.jobs.attempts.exchange import RESULT_BYTES, perform
from sluice_agent.jobs.attempts.headers import request_headers
from sluice_agent.jobs.attempts.records import Outcome, Spec
from sluice_agent.outbound.deadline import Watchdog
from sluice_agent.server.app import BODY_LIMIT
from tests.support.endpoint import running
from tests.support.misbehaviour import Behaviour, drips, hangs, hangs_in_body, reset_before, reset_mid_answer, status
from tests.support.webhook_receiver import WebhookReceiver


@pytest.fixture
def endpoint() -> Iterator[WebhookReceiver]:
    with running(WebhookReceiver()) as receiver:
        yield receiver


@pytest.fixture
def fallback() -> Iterator[WebhookReceiver]:
    with running(WebhookReceiver()) as receiver:
        yield receiver


def attempt(endpoint: WebhookReceiver, fallback: WebhookReceiver | None = None, **fields: Any) -> Outcome:
    values = {
        "run_id": "r1",
        "attempt": 2,
        "max_attempts": 3,
        "url": endpoint.hook,
        "fallback_url": fallback and fallback.hook,
        "headers": request_headers("r1", "j1", 2),
        "secrets": {"TOKEN": "s3cret-of-this-job"},
        "body": '{"a":1}',
        "timeout_secs": 20,
        "allows_private": True,
        **fields,
    }
    spec = Spec.model_validate(values)
    with Watchdog(spec.timeout_secs) as watchdog:
        return perform(spec, watchdog, now=lambda: 1_800_000_000.0)


def test_the_endpoint_gets_the_payload_and_who_sends_it(endpoint: WebhookReceiver) -> None:
    """An endpoint could not recognise a request that it has had before."""
    outcome = attempt(endpoint)
    [request] = endpoint.requests
    assert outcome.error_class is None
    assert request.raw == b'{"a":1}'
    sent = {name: request.headers[name] for name in ("content-type", "x-run-id", "x-job-id", "x-attempt")}
    assert sent == {"content-type": "application/json", "x-run-id": "r1", "x-job-id": "j1", "x-attempt": "2"}
    assert request.headers["x-secret-token"] == "s3cret-of-this-job"


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b'{"ok": true}', '{"ok": true}'),
        (b"done", '"done"'),
        (b"", None),
        (b" \n", None),
        (b"[NaN]", '"[NaN]"'),
        (b"\xff\x00", '"�\\u0000"'),
        (b"[" * 100_000, json.dumps("[" * 100_000)),
    ],
)
def test_a_result_is_json(endpoint: WebhookReceiver, body: bytes, result: str | None) -> None:
    """A run whose endpoint answers with text would fail after its work is done."""
    endpoint.script(status(200, body=body))
    assert attempt(endpoint).result == result


def test_a_long_result_is_cut(endpoint: WebhookReceiver) -> None:
    """An endpoint that answers without end would fill the memory of a worker."""
    endpoint.script(status(200, body=b"1" + b" " * RESULT_BYTES))  # its beginning is JSON as well
    outcome = attempt(endpoint)
    assert (outcome.is_result_cut, outcome.result) == (True, json.dumps("1" + " " * (RESULT_BYTES - 1)))


@pytest.mark.parametrize("byte", [b"\x01", b'"', b"\\", b"\xff", b"a"])
def test_each_result_fits_into_a_report(endpoint: WebhookReceiver, byte: bytes) -> None:
    """The server refuses a body that is too large: the run would be taken for lost, and be sent again."""
    endpoint.script(status(200, body=byte * RESULT_BYTES))
    result = attempt(endpoint).result
    assert result is not None
    json.loads(result)
    assert len(json.dumps(result, ensure_ascii=False).encode()) < BODY_LIMIT - 100_000


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (status(404, body="no such order"), (404, ErrorClass.CLIENT, "404: no such order", 0, False)),
        (status(500, body=""), (500, ErrorClass.SERVER, "500", 0, False)),
        (status(302, {"Location": "/"}, ""), (302, ErrorClass.UNKNOWN, "302", 0, False)),
        (status(429, {"Retry-After": "77"}, ""), (429, ErrorClass.RATE_LIMITED, "429", 77, False)),
        (status(503, {"Retry-After": "Fri, 15 Jan 2027 08:00:30 GMT"}, ""), (503, ErrorClass.SERVER, "503", 30, False)),
        (status(500, {"Retry-After": "77"}, ""), (500, ErrorClass.SERVER, "500", 0, False)),
        (status(500, {"X-Sluice-No-Retry": "true"}, ""), (500, ErrorClass.SERVER, "500", 0, True)),
    ],
)
def test_an_answer_is_read(endpoint: WebhookReceiver, behaviour: Behaviour, expected: tuple[Any, ...]) -> None:
    """The endpoint's wish for time, or for no further attempt, would be lost; or nobody see why a run fails."""
    endpoint.script(behaviour)
    found = attempt(endpoint)
    shown = (found.status_code, found.error_class, found.error, found.retry_after_secs, found.ends_run)
    assert shown == expected
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("behaviour", [hangs(), drips(0.2), hangs_in_body(has_length=False)])
def test_an_attempt_ends_with_its_time(
    endpoint: WebhookReceiver, fallback: WebhookReceiver, behaviour: Behaviour
) -> None:
    """An endpoint that never comes to an end would hold a slot for ever."""
    endpoint.script(behaviour)
    begin = time.monotonic()
    outcome = attempt(endpoint, fallback, timeout_secs=0.5)
    assert (outcome.error_class, outcome.status_code) == (ErrorClass.TIMEOUT, None)
    assert time.monotonic() - begin < 5
    assert fallback.requests == [], "no time is left for it"


@pytest.mark.parametrize("behaviour", [status(500), status(429), status(408), reset_before, reset_mid_answer])
def test_the_fallback_completes_an_attempt(
    endpoint: WebhookReceiver, fallback: WebhookReceiver, behaviour: Behaviour
) -> None:
    """A run would fail although its other endpoint works."""
    endpoint.script(behaviour)
    fallback.script(status(200, body='"by the fallback"'))
    outcome = attempt(endpoint, fallback)
    assert outcome.used_fallback
    assert (outcome.error_class, outcome.result) == (None, '"by the fallback"')
    assert [len(endpoint.requests), len(fallback.requests)] == [1, 1]


@pytest.mark.parametrize(
    "behaviour", [status(404), status(401), status(302), status(500, {"X-Sluice-No-Retry": "true"})]
)
def test_no_fallback_is_asked_for_what_it_can_not_help(
    endpoint: WebhookReceiver, fallback: WebhookReceiver, behaviour: Behaviour
) -> None:
    """A request that the endpoint has refused would be carried out elsewhere."""
    endpoint.script(behaviour)
    assert not attempt(endpoint, fallback).used_fallback
    assert fallback.requests == []


def test_a_fallback_that_fails_adds_its_reason(endpoint: WebhookReceiver, fallback: WebhookReceiver) -> None:
    """Nobody would see that both have failed, or a final refusal by the fallback end a run that may be retried."""
    endpoint.script(status(500, body="a"))
    fallback.script(status(404, body="b"))
    outcome = attempt(endpoint, fallback)
    assert (outcome.error_class, outcome.error) == (ErrorClass.SERVER, "500: a; the fallback: 404: b")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://169.254.169.254/latest", "http://[::ffff:127.0.0.1]/"])
def test_an_address_inside_is_refused_as_it_is_requested(endpoint: WebhookReceiver, url: str) -> None:
    """A name that was good as the job was defined would lead into the network, or the run be retried for nothing."""
    outcome = attempt(endpoint, url=url, allows_private=False)
    assert outcome.error_class is ErrorClass.CLIENT


def test_times_are_at_least_a_millisecond(endpoint: WebhookReceiver) -> None:
    """A run's trace would show that nothing took any time."""
    trace = attempt(endpoint).trace
    assert trace.connect_ms >= 1
    assert trace.dispatch_ms == trace.connect_ms + trace.ttfb_ms + trace.transfer_ms
    assert trace.total_ms >= trace.ttfb_ms >= 1


def test_secrets_are_not_printed() -> None:
    """A log line or a traceback would show a job's secrets and payload."""
    spec = Spec(run_id="r", attempt=1, max_attempts=1, url="http://x", headers={"X-Secret-A": "s3cret"},
                body='"s3cret"', timeout_secs=1)  # fmt: skip
    assert "s3cret" not in repr(spec)
    assert "s3cret" not in repr(Outcome(result='"s3cret"'))


def test_secrets_go_to_the_endpoint_alone(endpoint: WebhookReceiver, fallback: WebhookReceiver) -> None:
    """Whoever sets the fallback of a job could have the secrets of an environment sent to an address of his own."""
    endpoint.script(status(500))
    attempt(endpoint, fallback)
    assert "x-secret-token" in endpoint.requests[0].headers
    assert "x-secret-token" not in fallback.requests[0].headers


@pytest.mark.parametrize("code", [200, 500])
def test_a_secret_that_an_endpoint_repeats_is_not_kept(endpoint: WebhookReceiver, code: int) -> None:
    """An endpoint that answers with its request would put secrets into lists, webhooks and pages."""
    secret = 'quo"ted/secret'
    body = json.dumps({"headers": [secret], "ok": True}) + "\n"
    for sent in (body, body.replace("/", "\\/")):
        endpoint.script(status(code, body=sent.encode()))
        outcome = attempt(endpoint, secrets={"TOKEN": secret})
        text = outcome.result if code == 200 else outcome.error
        assert '{"headers": ["[redacted]"], "ok": true}' in (text or "")


def test_the_beginning_of_a_secret_is_not_kept_where_an_answer_is_cut(endpoint: WebhookReceiver) -> None:
    """Most of a secret is as good as all of it."""
    endpoint.script(status(500, body=b"a" * 4_090 + b"the secret of this job"))
    error = attempt(endpoint, secrets={"TOKEN": "the secret of this job"}).error
    assert error == "500: " + "a" * 4_090


def test_heads_are_kept_only_in_debug_mode(endpoint: WebhookReceiver, fallback: WebhookReceiver) -> None:
    """Nobody could see what was sent; or all runs would keep what one of them needs."""
    endpoint.script(status(503, {"X-Reason": "full"}), status(200))
    outcome = attempt(endpoint, fallback, debug_mode=True)
    first, second = outcome.trace.exchanges
    assert (first.url, first.status_code, second.url, second.status_code) == (endpoint.hook, 503, fallback.hook, 200)
    assert first.request_headers["X-Run-ID"] == "r1"
    assert first.request_headers["X-Secret-TOKEN"] == "[redacted]"
    assert "X-Secret-TOKEN" not in second.request_headers
    assert first.answer_headers is not None
    assert first.answer_headers["x-reason"] == "full"
    assert attempt(endpoint).trace.exchanges == ()


def test_the_head_of_a_request_without_an_answer_is_kept(endpoint: WebhookReceiver) -> None:
    """The requests that have to be looked at are those that nothing has come of."""
    endpoint.script(reset_before)
    [exchange] = attempt(endpoint, debug_mode=True).trace.exchanges
    assert (exchange.status_code, exchange.answer_headers) == (None, None)
    assert exchange.request_headers["X-Attempt"] == "2"
