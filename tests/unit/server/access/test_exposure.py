"""Which names a server answers to, and which requests may come from another machine."""

from __future__ import annotations

import pytest

from sluice_agent.errors import ConfigError
from sluice_agent.server.access.exposure import exposure_of, is_secure


@pytest.mark.parametrize(
    ("listens_on", "allowed", "refused"),
    [
        (
            "127.0.0.1",
            ["localhost", "LOCALHOST:8787", "localhost.", "127.0.0.1:1", "127.8.8.8", "[::1]:8787", "a.localhost"],
            [
                "evil.example",
                "127.0.0.1.evil.example",
                "10.0.0.1",
                "localhost.evil.example",
                "[::2]",
                "",
                ":8787",
                "[",
                "@",
            ],
        ),
        ("0.0.0.0", ["10.0.0.1:8787", "[fe80::1]", "localhost"], ["evil.example", "sluice"]),
        ("::", ["10.0.0.1", "[2001:db8::1]:80"], ["evil.example"]),
        ("10.0.0.1", ["10.0.0.1:8787", "127.0.0.1"], ["10.0.0.2", "evil.example"]),
        ("sluice.internal", ["sluice.internal:8787"], ["internal", "x.sluice.internal"]),
    ],
)
def test_names_that_a_server_answers_to(listens_on: str, allowed: list[str], refused: list[str]) -> None:
    """A page elsewhere could otherwise rebind its name to this address and read every job."""
    exposure = exposure_of(listens_on)
    assert [host for host in allowed if not exposure.allows_host(host)] == []
    assert [host for host in refused if exposure.allows_host(host)] == []


def test_a_further_name_is_allowed_with_any_port() -> None:
    """Behind a proxy no other name reaches the server."""
    exposure = exposure_of("127.0.0.1", ["Sluice.Example.com"])
    assert exposure.allows_host("sluice.example.com:443")
    assert not exposure.allows_host("example.com")


@pytest.mark.parametrize("name", ["", "https://sluice.example.com", "a/b"])
def test_a_name_that_is_no_host_is_refused(name: str) -> None:
    """The server would otherwise start, and answer to nobody."""
    with pytest.raises(ConfigError, match="--allow-host"):
        exposure_of("127.0.0.1", [name])


@pytest.mark.parametrize(
    ("listens_on", "names", "is_open"),
    [
        ("127.0.0.1", [], False),
        ("::1", [], False),
        ("localhost", ["127.0.0.1", "a.localhost"], False),
        ("127.0.0.1", ["sluice.example.com"], True),
        ("0.0.0.0", [], True),
        ("10.0.0.1", [], True),
        ("sluice.internal", [], True),
    ],
)
def test_a_server_that_others_reach_is_open(listens_on: str, names: list[str], is_open: bool) -> None:
    """Everyone on the network could otherwise read all jobs without a key."""
    assert exposure_of(listens_on, names).is_exposed("1.1", {}) is is_open


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "x-forwarded-anything", "via", "x-real-ip"])
def test_a_request_that_a_proxy_passes_on_is_exposed(header: str) -> None:
    """Behind a proxy every request comes from loopback: it would otherwise need no key."""
    assert exposure_of("127.0.0.1").is_exposed("1.1", {"host": "localhost", header: ""})
    assert not exposure_of("127.0.0.1").is_exposed("1.1", {"host": "localhost", "x-request-id": "1"})


def test_http_1_0_is_a_proxy() -> None:
    """nginx passes requests on by HTTP/1.0 and without any header of its own, unless it is configured."""
    assert exposure_of("127.0.0.1").is_exposed("1.0", {})


@pytest.mark.parametrize(
    ("scheme", "headers", "secure"),
    [
        ("http", {}, False),
        ("https", {}, True),
        ("http", {"x-forwarded-proto": "https"}, True),
        ("http", {"x-forwarded-proto": "HTTPS, http"}, True),
        ("http", {"x-forwarded-proto": "http"}, False),
        ("http", {"forwarded": 'for=1.2.3.4;proto="https"'}, True),
    ],
)
def test_the_clients_connection_is_secure(scheme: str, headers: dict[str, str], secure: bool) -> None:
    """A browser would otherwise send the session's cookie over an unencrypted connection."""
    assert is_secure(scheme, headers) is secure
