"""Whatever the endpoint does: a process ships, everything is brought to an end once, and nobody is asked too often."""

from __future__ import annotations

import shutil
import ssl
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
    """What an endpoint does before it does well, what it does for ever, and what comes of `EVENTS` events."""

    script: tuple[Behaviour, ...] = ()
    standing: tuple[Behaviour, ...] = ()
    rejected: int = 0
    """How many of them; minus n: those that `one_in(n)` chooses."""
    duplicates: int = 0
    """How many of them; minus n: those of the first n that `one_in(4)` leaves."""
    least_wait: float = 0.0
    """Seconds between the first request and the second."""
    requests: int | None = None
    """How many there are, exactly; None: one for each line of the script and one that succeeds; -1: a few."""
    said: dict[str, int] = field(default_factory=lambda: {"can't be delivered": 1})
    """What stands in the log of the process that ships, and how often."""


def after(seconds: float) -> str:
    """A Retry-After as a date, which has no fractions of a second."""
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


def number_of(event: dict[str, Any]) -> int:
    """Which of the recorded events it is, from 0 on."""
    return int(event["job"]["externalId"].rpartition("-")[2])


def one_in(many: int) -> Callable[[dict[str, Any]], bool]:
    """A choice of events that is the same each time."""
    return lambda event: number_of(event) % many == 0


def rejects_and_truncates(keep: int) -> Behaviour:
    """200, with the first event rejected and those after `keep` not taken."""

    def behave(exchange: Exchange) -> bool:
        first = event_id_of(exchange.request.events[0])
        exchange.send(200, exchange.accept(reject=lambda event: event_id_of(event) == first, keep=keep))
        return True

    return behave


def rejects_some_and_truncates(keep: int) -> Behaviour:
    """200, with one event in four rejected, those that came before known, and those after `keep` not taken."""

    def behave(exchange: Exchange) -> bool:
        exchange.send(200, exchange.accept(reject=one_in(4), keep=keep))
        return True

    return behave


def of_date(exchange: Exchange) -> bool:
    """429 until a moment from now."""
    return too_many(after(2))(exchange)


SILENT: dict[str, int] = {}
CASES: dict[str, Case] = {
    "well": Case(said=SILENT),
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
    "the day's limit, nothing taken": Case((truncates(0),), least_wait=1.0),
    "rejected and truncated": Case((rejects_and_truncates(10),), duplicates=9, least_wait=1.0),
    "rejected, known and truncated": Case(
        (rejects_some_and_truncates(15), rejects_some_and_truncates(30)),
        (rejects(one_in(4)),),
        rejected=-4,
        duplicates=-30,
        least_wait=1.0,
        said={"can't be delivered": 1, "refused": 1},
    ),
    "400 for some": Case((), (poisoned_by(one_in(9)),), rejected=-9, requests=-1, said={"refused": 1}),
    "422 for some": Case((), (poisoned_by(one_in(9), 422),), rejected=-9, requests=-1, said={"refused": 1}),
    "400 for some, by a firewall": Case(
        (), (poisoned_by(one_in(9), page=b"<html>Forbidden"),), rejected=-9, requests=-1, said={"refused": 1}
    ),
    "400 for all, by a proxy": Case((html(400), html(400)), requests=3),
    "400 for all": Case((), (status(400),), rejected=EVENTS, requests=2 * EVENTS - 1, said={"refused": 1}),
    "413 with a limit that nobody knows": Case((), (limits(4_000),), requests=-1, said=SILENT),
    "413 for all": Case((), (limits(10),), rejected=EVENTS, requests=2 * EVENTS - 1, said={"refused": 1}),
    "rejected": Case((), (rejects(one_in(4)),), rejected=-4, said={"refused": 1}),
    "all rejected": Case((), (rejects(lambda _: True),), rejected=EVENTS, said={"refused": 1}),
    "everything at once": Case(
        (reset_before, status(503), too_many("0"), html(), hangs(), lost_answer, status(401)), duplicates=EVENTS
    ),
}


def delivered(host: Host, shipper: Process, timeout: float = 20.0) -> dict[str, Any]:
    """The accounts when nothing waits any more and the one that ships has ended well."""
    wait_until(lambda: not host.pending(), timeout, "something still waits", host.report)
    host.end(shipper)
    return host.balanced()


@pytest.mark.parametrize("name", CASES)
def test_everything_is_brought_to_an_end(recorded: Host, name: str) -> None:
    """Without it a bad hour of the endpoint costs events, doubles them, or has it asked without a pause."""
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
    for words, times in case.said.items():
        assert shipper.logs().count(words) == times
    if not case.said:
        assert "can't" not in shipper.logs()
    assert recorded.files() == []
    assert float(shipper.logs().rpartition("processor seconds: ")[2]) < 3


def chosen(host: Host, many: int) -> list[str]:
    """The ids of the recorded events that `one_in(many)` chooses: those which are not at the endpoint."""
    sent = {event_id_of(event): event for request in host.endpoint.requests for event in request.events}
    return [str(name) for name, event in sent.items() if one_in(many)(event)]


@pytest.mark.parametrize("code", [301, 401, 403, 404, 501])
def test_while_a_person_must_mend_something_it_waits(recorded: Host, code: int) -> None:
    """Without it a wrong key or address throws away what was captured until somebody notices."""
    recorded.endpoint.standing(status(code))
    shipper = recorded.ship()
    wait_until(lambda: len(recorded.endpoint.requests) >= 3, 20, "it is not tried again", recorded.report)
    report = recorded.balanced()
    assert report["pending"] == EVENTS
    assert report["last_error"]["message"].startswith(str(code))
    recorded.endpoint.standing()
    assert delivered(recorded, shipper)["delivered"] == EVENTS
    assert shipper.logs().count("can't be delivered") == 1
    gaps = [later.at - one.at for one, later in pairwise(recorded.endpoint.requests)]
    assert min(gaps) >= 0.2 * 0.99  # the minute of production


def test_an_endpoint_that_refuses_connections_is_found_again(recorded: Host) -> None:
    """Without it a restart of the endpoint needs a restart of every worker."""
    recorded.endpoint.down()
    shipper = recorded.ship()
    wait_until(lambda: "can't be delivered" in shipper.logs(), 20, "nothing is said")
    assert "ConnectError" in recorded.balanced()["last_error"]["message"]
    recorded.endpoint.up()
    assert delivered(recorded, shipper)["delivered"] == EVENTS


def test_a_name_that_is_not_known_is_a_wait(recorded: Host) -> None:
    """Without it a name server that is away for a minute costs what was captured in it."""
    shipper = recorded.ship(env={"SLUICE_API_URL": "http://no-such-host.invalid/api"})
    wait_until(lambda: "can't be delivered" in shipper.logs(), 30, "nothing is said")
    assert "ConnectError" in recorded.balanced()["last_error"]["message"]
    assert recorded.status()["pending"] == EVENTS
    shipper.stop()
    recorded.ship_once()
    assert recorded.balanced()["delivered"] == EVENTS


def test_a_key_never_goes_where_a_redirect_points(recorded: Host) -> None:
    """Without it whoever can answer once for the endpoint gets the user's key."""
    thief = Endpoint()
    recorded.endpoint.standing(status(307, {"Location": f"{thief.url}/ingest"}))
    shipper = recorded.ship()
    wait_until(lambda: len(recorded.endpoint.requests) >= 2, 20, "it is not tried again", recorded.report)
    recorded.endpoint.standing()
    assert delivered(recorded, shipper)["delivered"] == EVENTS
    assert thief.requests == []
    thief.close()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_used(recorded: Host, variable: str) -> None:
    """Without it nothing leaves a network whose only way out is a proxy."""
    proxy = Proxy(recorded.endpoint.port)
    way = {"SLUICE_API_URL": "http://sluice.invalid/api", "NO_PROXY": "", "no_proxy": "", variable: proxy.url}
    recorded.ship_once(env=way)
    assert recorded.balanced()["delivered"] == EVENTS
    assert proxy.targets == ["http://sluice.invalid/api/ingest"]
    proxy.close()


def test_hosts_that_need_no_proxy_are_asked_directly(recorded: Host) -> None:
    """Without it an endpoint in one's own network is asked for at a proxy that does not know it."""
    recorded.ship_once(env={"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"})
    assert recorded.balanced()["delivered"] == EVENTS


@pytest.fixture
def secure_endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    """An endpoint whose certificate nobody knows; it is in the file `certificate.pem`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no `openssl` to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = [
        "-keyout",
        str(key),
        "-out",
        str(certificate),
        "-subj",
        "/CN=tests",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *made]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    endpoint = Endpoint(tls=context)
    yield endpoint
    endpoint.close()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_a_certificate_of_ones_own_is_refused_until_it_is_named(
    recorded: Host, secure_endpoint: Endpoint, tmp_path: Path, variable: str
) -> None:
    """Without it a company's own certificate can't be used; or anybody's can, and reads the key on its way."""
    address = {"SLUICE_API_URL": secure_endpoint.url}
    shipper = recorded.ship(env=address)
    wait_until(lambda: "can't be delivered" in shipper.logs(), 20, "nothing is said")
    assert "CERTIFICATE_VERIFY_FAILED" in recorded.balanced()["last_error"]["message"]
    assert secure_endpoint.requests == []
    shipper.stop()

    known = tmp_path / "known"
    known.mkdir()
    shutil.copy(tmp_path / "certificate.pem", known)
    subprocess.run(["openssl", "rehash", str(known)], check=True)
    named = {"SSL_CERT_FILE": str(known / "certificate.pem"), "SSL_CERT_DIR": str(known)}
    recorded.ship_once(env={**address, "SSL_CERT_FILE": "", variable: named[variable]})
    assert recorded.balanced()["delivered"] == EVENTS == len(secure_endpoint.events)


def test_a_proxy_leads_to_a_secure_endpoint(recorded: Host, secure_endpoint: Endpoint, tmp_path: Path) -> None:
    """Without it nothing leaves a company's network. Its proxy passes on what it can't read, and not the key."""
    proxy = Proxy(secure_endpoint.port)
    way = {"SLUICE_API_URL": secure_endpoint.url, "NO_PROXY": "", "no_proxy": "", "HTTPS_PROXY": proxy.url}
    recorded.ship_once(env={**way, "SSL_CERT_FILE": str(tmp_path / "certificate.pem")})
    assert recorded.balanced()["delivered"] == EVENTS == len(secure_endpoint.events)
    assert proxy.targets == [f"127.0.0.1:{secure_endpoint.port}"]
    proxy.close()
