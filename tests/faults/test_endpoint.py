"""Behaviours of the endpoint: a process ships all events, each has one end, and requests are not too frequent."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.faults.host import Host
from tests.faults.recording import EVENTS
from tests.support.certificate import self_signed
from tests.support.endpoint import Endpoint, event_id_of
from tests.support.ingest_server import Exchange
from tests.support.misbehaviour import (
    Behaviour,
    drips,
    drips_headers,
    hangs,
    html,
    limits,
    lost_answer,
    poisoned_by,
    rejects,
    reset_before,
    reset_mid_answer,
    rubbish,
    status,
    too_many,
    truncates,
)
from tests.support.process import Process
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Case:
    """The first and the lasting behaviours of an endpoint, and the expected result for `EVENTS` events."""

    script: tuple[Behaviour, ...] = ()
    standing: tuple[Behaviour, ...] = ()
    rejected: int = 0
    """The number of rejected events; minus n: those that `one_in(n)` chooses."""
    duplicates: int = 0
    """The number of duplicates; minus n: those of the first n that `one_in(4)` does not choose."""
    least_wait: float = 0.0
    """Seconds between the first request and the second."""
    requests: int | None = None
    """The exact number of requests; None: one for each behaviour of the script and one that succeeds; -1: a few."""
    logged: dict[str, int] = field(default_factory=lambda: {"can't be delivered": 1})
    """The texts in the log of the process that ships, and how often each occurs."""


def after(seconds: float) -> str:
    """Return a Retry-After as a date, which has no fractions of a second."""
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


def number_of(event: dict[str, Any]) -> int:
    """Return the index of a recorded event, from 0 on."""
    return int(event["job"]["externalId"].rpartition("-")[2])


def one_in(many: int) -> Callable[[dict[str, Any]], bool]:
    """Return a predicate that chooses the same events each time."""
    return lambda event: number_of(event) % many == 0


def rejects_and_truncates(keep: int) -> Behaviour:
    """Answer 200, with the first event rejected and those after `keep` not accepted."""

    def behave(exchange: Exchange) -> bool:
        first = event_id_of(exchange.request.events[0])
        exchange.send(200, exchange.accept(reject=lambda event: event_id_of(event) == first, keep=keep))
        return True

    return behave


def rejects_some_and_truncates(keep: int) -> Behaviour:
    """Answer 200, with one event in four rejected, earlier events skipped, and those after `keep` not accepted."""

    def behave(exchange: Exchange) -> bool:
        exchange.send(200, exchange.accept(reject=one_in(4), keep=keep))
        return True

    return behave


def of_date(exchange: Exchange) -> bool:
    """Answer 429 until two seconds from now."""
    return too_many(after(2))(exchange)


SILENT: dict[str, int] = {}
CASES: dict[str, Case] = {
    "well": Case(logged=SILENT),
    "reset": Case((reset_before,)),
    "reset in mid-answer": Case((reset_mid_answer,), duplicates=EVENTS),
    "answer lost": Case((lost_answer,), duplicates=EVENTS),
    "never answers": Case((hangs(),)),
    "accepts and never answers": Case((hangs(accepted=True),), duplicates=EVENTS),
    "slow by the byte": Case((drips(0.05),), duplicates=EVENTS),
    "headers slow by the byte, without an end": Case((drips_headers(0.05),), duplicates=EVENTS),
    "200 with rubbish": Case((rubbish(),)),
    "200 with another JSON": Case((rubbish("[1, 2, 3]"),)),
    "200 with HTML": Case((html(),)),
    "301": Case((status(301, {"Location": "http://127.0.0.1:1/api/ingest"}),), least_wait=0.2),
    "401 and then 200": Case((status(401), status(401)), least_wait=0.2),
    "403": Case((status(403),), least_wait=0.2),
    "404": Case((status(404),), least_wait=0.2),
    "408": Case((status(408),)),
    "425": Case((status(425),)),
    "429 without Retry-After": Case((too_many(None),)),
    "429 for a second": Case((too_many("1"),), least_wait=1.0),
    "429 until a date": Case((of_date,), least_wait=0.9),
    "429 until a date in the past": Case((too_many(after(-3_600)),)),
    "429 for ten hours": Case((too_many("36000"),), least_wait=1.0),
    "429 for a negative time": Case((too_many("-5"),)),
    "429 with rubbish": Case((too_many("soon, 3; or so"), too_many("nan"), too_many("inf"), too_many("1e999"))),
    "500": Case((status(500),)),
    "501": Case((status(501),), least_wait=0.2),
    "502 with HTML": Case((html(502),)),
    "503 for a second": Case((status(503, {"Retry-After": "1"}),), least_wait=1.0),
    "the day's limit": Case((truncates(15),), duplicates=15, least_wait=1.0),
    "the day's limit, nothing accepted": Case((truncates(0),), least_wait=1.0),
    "rejected and truncated": Case((rejects_and_truncates(10),), duplicates=9, least_wait=1.0),
    "rejected, known and truncated": Case(
        (rejects_some_and_truncates(15), rejects_some_and_truncates(30)),
        (rejects(one_in(4)),),
        rejected=-4,
        duplicates=-30,
        least_wait=1.0,
        logged={"can't be delivered": 1, "refused": 1},
    ),
    "400 for some": Case((), (poisoned_by(one_in(9)),), rejected=-9, requests=-1, logged={"refused": 1}),
    "422 for some": Case((), (poisoned_by(one_in(9), 422),), rejected=-9, requests=-1, logged={"refused": 1}),
    "400 for some, by a firewall": Case(
        (), (poisoned_by(one_in(9), page=b"<html>Forbidden"),), rejected=-9, requests=-1, logged={"refused": 1}
    ),
    "400 for all, by a proxy": Case((html(400), html(400)), requests=3),
    "400 for all": Case((), (status(400),), rejected=EVENTS, requests=2 * EVENTS - 1, logged={"refused": 1}),
    "413 with an unknown limit": Case((), (limits(4_000),), requests=-1, logged=SILENT),
    "413 for all": Case((), (limits(10),), rejected=EVENTS, requests=2 * EVENTS - 1, logged={"refused": 1}),
    "rejected": Case((), (rejects(one_in(4)),), rejected=-4, logged={"refused": 1}),
    "all rejected": Case((), (rejects(lambda _: True),), rejected=EVENTS, logged={"refused": 1}),
    "everything at once": Case(
        (reset_before, status(503), too_many("0"), html(), hangs(), lost_answer, status(401)),
        duplicates=EVENTS,
        logged={"can't be delivered": 2, "It refuses SLUICE_API_KEY": 1},
    ),
}


def failure_of(host: Host, shipper: Process) -> str:
    """Return why nothing is delivered, once it is logged and then recorded."""
    wait_until(lambda: "can't be delivered" in shipper.logs(), 30, "nothing is logged")
    wait_until(lambda: host.status()["last_error"], 20, "it is not recorded")
    return str(host.balanced()["last_error"]["message"])


def delivered(host: Host, shipper: Process, timeout: float = 20.0) -> dict[str, Any]:
    """Wait until no event is pending, end the shipper, and return the report."""
    wait_until(lambda: not host.pending(), timeout, "events are still pending", host.report)
    host.end(shipper)
    return host.balanced()


@pytest.mark.parametrize("name", CASES)
def test_every_event_has_one_end(recorded: Host, name: str) -> None:
    """Without it a bad hour of the endpoint loses events, duplicates them, or causes requests without a pause."""
    case, endpoint = CASES[name], recorded.endpoint
    endpoint.script(*case.script)
    endpoint.standing(*case.standing)
    shipper = recorded.ship()
    report = delivered(recorded, shipper)
    rejected = case.rejected if case.rejected >= 0 else len(chosen(recorded, -case.rejected))
    assert report["rejected"] == rejected
    sent = recorded.endpoint.requests[-1].events[: max(-case.duplicates, 0)]
    duplicates = case.duplicates if case.duplicates >= 0 else sum(not one_in(4)(event) for event in sent)
    assert (report["delivered"], report["duplicates"]) == (EVENTS - rejected, duplicates)
    assert len(endpoint.events) == EVENTS - rejected
    requests = case.requests or len(case.script) + 1
    assert len(endpoint.requests) == requests if requests > 0 else len(endpoint.requests) <= 2 * EVENTS
    if case.least_wait:
        assert endpoint.requests[1].at - endpoint.requests[0].at >= case.least_wait * 0.99
    for text, times in case.logged.items():
        assert shipper.logs().count(text) == times
    if not case.logged:
        assert "can't" not in shipper.logs()
    assert recorded.files() == []
    assert float(shipper.logs().rpartition("processor seconds: ")[2]) < 3


def chosen(host: Host, many: int) -> list[str]:
    """Return the ids of the recorded events that `one_in(many)` chooses: the endpoint did not accept them."""
    sent = {event_id_of(event): event for request in host.endpoint.requests for event in request.events}
    return [str(name) for name, event in sent.items() if one_in(many)(event)]


@pytest.mark.parametrize("code", [301, 401, 403, 404, 501])
def test_it_retries_while_a_person_must_fix_something(recorded: Host, code: int) -> None:
    """Without it a wrong key or address discards all events until a person notices."""
    recorded.endpoint.standing(status(code))
    shipper = recorded.ship()
    wait_until(lambda: len(recorded.endpoint.requests) >= 3, 20, "it does not retry", recorded.report)
    report = recorded.balanced()
    assert report["pending"] == EVENTS
    assert report["last_error"]["message"].startswith(str(code))
    recorded.endpoint.standing()
    assert delivered(recorded, shipper)["delivered"] == EVENTS
    assert shipper.logs().count("can't be delivered") == 1
    gaps = [later.at - earlier.at for earlier, later in pairwise(recorded.endpoint.requests)]
    assert min(gaps) >= 0.2 * 0.99  # the minute of production


def test_an_endpoint_that_refuses_connections_is_retried(recorded: Host) -> None:
    """Without it a restart of the endpoint needs a restart of every worker."""
    recorded.endpoint.down()
    shipper = recorded.ship()
    assert "ConnectError" in failure_of(recorded, shipper)
    recorded.endpoint.up()
    assert delivered(recorded, shipper)["delivered"] == EVENTS


def test_an_unknown_host_name_is_retried(recorded: Host) -> None:
    """Without it a name server that is unavailable for a minute loses the events of that minute."""
    shipper = recorded.ship(env={"SLUICE_API_URL": "http://no-such-host.invalid/api"})
    assert "ConnectError" in failure_of(recorded, shipper)
    assert recorded.status()["pending"] == EVENTS
    shipper.stop()
    recorded.ship_once()
    assert recorded.balanced()["delivered"] == EVENTS


def test_a_key_never_goes_where_a_redirect_points(recorded: Host) -> None:
    """Without it an attacker who answers once for the endpoint gets the user's key."""
    thief = Endpoint()
    recorded.endpoint.standing(status(307, {"Location": f"{thief.url}/ingest"}))
    shipper = recorded.ship()
    wait_until(lambda: len(recorded.endpoint.requests) >= 2, 20, "it does not retry", recorded.report)
    recorded.endpoint.standing()
    assert delivered(recorded, shipper)["delivered"] == EVENTS
    assert thief.requests == []
    thief.close()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_used(recorded: Host, variable: str) -> None:
    """Without it nothing leaves a network whose only way out is a proxy."""
    proxy = Proxy(recorded.endpoint.port)
    env = {"SLUICE_API_URL": "http://sluice.invalid/api", "NO_PROXY": "", "no_proxy": "", variable: proxy.url}
    recorded.ship_once(env=env)
    assert recorded.balanced()["delivered"] == EVENTS
    assert proxy.targets == ["http://sluice.invalid/api/ingest"]
    proxy.close()


def test_hosts_without_a_proxy_get_direct_requests(recorded: Host) -> None:
    """Without it requests to an endpoint in the user's network go to a proxy that can't reach it."""
    recorded.ship_once(env={"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"})
    assert recorded.balanced()["delivered"] == EVENTS


@pytest.fixture
def secure_endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    """An endpoint with a self-signed certificate, which is in the file `certificate.pem`."""
    endpoint = Endpoint(tls=self_signed(tmp_path, "IP:127.0.0.1"))
    yield endpoint
    endpoint.close()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_private_certificate_is_refused_until_it_is_configured(
    recorded: Host, secure_endpoint: Endpoint, tmp_path: Path, variable: str
) -> None:
    """Without it a company's own certificate can't be used; or any certificate can, and its owner reads the key."""
    address = {"SLUICE_API_URL": secure_endpoint.url}
    shipper = recorded.ship(env=address)
    assert "CERTIFICATE_VERIFY_FAILED" in failure_of(recorded, shipper)
    assert secure_endpoint.requests == []
    shipper.stop()

    trusted = tmp_path / "trusted"
    trusted.mkdir()
    shutil.copy(tmp_path / "certificate.pem", trusted)
    subprocess.run(["openssl", "rehash", str(trusted)], check=True)
    values = {"SSL_CERT_FILE": str(trusted / "certificate.pem"), "SSL_CERT_DIR": str(trusted)}
    recorded.ship_once(env={**address, "SSL_CERT_FILE": "", variable: values[variable]})
    assert recorded.balanced()["delivered"] == EVENTS == len(secure_endpoint.events)


def test_a_proxy_forwards_to_a_secure_endpoint(recorded: Host, secure_endpoint: Endpoint, tmp_path: Path) -> None:
    """Without it nothing leaves a company's network. Its proxy forwards encrypted bytes, and never sees the key."""
    proxy = Proxy(secure_endpoint.port)
    env = {"SLUICE_API_URL": secure_endpoint.url, "NO_PROXY": "", "no_proxy": "", "HTTPS_PROXY": proxy.url}
    recorded.ship_once(env={**env, "SSL_CERT_FILE": str(tmp_path / "certificate.pem")})
    assert recorded.balanced()["delivered"] == EVENTS == len(secure_endpoint.events)
    assert proxy.targets == [f"127.0.0.1:{secure_endpoint.port}"]
    proxy.close()
