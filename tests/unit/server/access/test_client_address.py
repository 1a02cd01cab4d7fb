"""The address of a client, as connections and X-Forwarded-For show it."""

from __future__ import annotations

import pytest

from sluice_agent.errors import ConfigError
from sluice_agent.server.access.client_address import proxies_of

LOCAL = "127.0.0.1"
PROXIES = proxies_of(["10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("203.0.113.5", ["198.51.100.7"], "203.0.113.5"),  # no proxy: it has written the header itself
        (LOCAL, [], LOCAL),
        (LOCAL, ["198.51.100.7"], "198.51.100.7"),
        ("::1", ["198.51.100.7"], "198.51.100.7"),
        (LOCAL, ["1.1.1.1, 198.51.100.7"], "198.51.100.7"),  # the first is the client's invention
        (LOCAL, ["1.1.1.1", "198.51.100.7"], "198.51.100.7"),  # a proxy that adds a line of its own
        (LOCAL, ["1.1.1.1, 198.51.100.7, 10.1.2.3"], "198.51.100.7"),
        ("10.9.9.9", ["198.51.100.7,192.0.2.1,10.1.2.3"], "198.51.100.7"),
        ("::ffff:10.9.9.9", ["::ffff:198.51.100.7"], "198.51.100.7"),
        (LOCAL, ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        (LOCAL, ["198.51.100.7:4711"], "198.51.100.7"),
        (LOCAL, ["[2001:db8::7]:4711"], "2001:db8::/64"),
        (LOCAL, ["198.51.100.7, unknown"], LOCAL),
        (LOCAL, ["198.51.100.7, unknown, 10.0.0.1"], "10.0.0.1"),
        (LOCAL, [""], LOCAL),
        (LOCAL, ["[", "1.2.3", "::::", "é", "1" * 60_000], LOCAL),
        ("2001:db8:7:8:1::1", [], "2001:db8:7:8::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("2001:db8:1:2::3", ["2001:db8:7:8:ffff::1"], "2001:db8:7:8::/64"),
        ("", [], ""),
        ("testclient", ["198.51.100.7"], "testclient"),
    ],
)
def test_the_address_of_a_client(peer: str, forwarded: list[str], client: str) -> None:
    """All clients of a proxy would share one limit; or each would evade its own, by a header or its next address."""
    assert PROXIES.client_of(peer, forwarded) == client


@pytest.mark.parametrize("value", ["", "proxy.example.com", "10.0.0.0/33", "10.0.0.1:80"])
def test_what_is_no_address_of_a_proxy_is_refused(value: str) -> None:
    """The server would start, and take its proxy for the only client."""
    with pytest.raises(ConfigError, match="--trusted-proxy takes an address or a network such as"):
        proxies_of([value])
