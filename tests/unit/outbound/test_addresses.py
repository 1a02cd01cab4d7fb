"""Which addresses a user's URL may lead to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sluice_agent.outbound.addresses import AddressError, check_literal, resolve

NEVER = [
    "169.254.169.254", "[fe80::1]", "100.100.100.200", "[fd00:ec2::254]", "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]",
    "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:1::1]", "0.0.0.0", "[::]", "224.0.0.1",
    "255.255.255.255", "0xa9fea9fe", "2852039166", "169.254.43518",
    "metadata.google.internal", "metadata.google.internal.",
    "[ff02::1]", "240.0.0.1", "192.0.2.1",
]  # fmt: skip
PRIVATE = ["127.0.0.1", "10.1.2.3", "172.31.255.255", "192.168.0.1", "100.64.0.1", "[::1]", "[fd12::1]"]
PUBLIC = ["8.8.8.8", "[2606:4700::1111]", "172.32.0.1"]


@pytest.mark.parametrize("address", NEVER)
def test_addresses_of_the_machine_itself_are_never_requested(address: str) -> None:
    """A URL would read the cloud's credentials of the server, also where private addresses are permitted."""
    for url in (f"http://{address}/", f"https://{address}:8443/x"):
        with pytest.raises(AddressError):
            resolve(url, allows_private=True)
        with pytest.raises(AddressError):
            check_literal(url, allows_private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_permission(address: str) -> None:
    """A URL would reach services that trust their network; or an own chat server could not be reached."""
    with pytest.raises(AddressError, match="is a private address"):
        resolve(f"http://{address}/", allows_private=False)
    assert resolve(f"http://{address}/", allows_private=True).addresses == (address.strip("[]"),)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_requested(address: str) -> None:
    """No webhook would leave the server."""
    assert resolve(f"https://{address}/", allows_private=False).port == 443


@pytest.mark.parametrize("found", [["8.8.8.8", "169.254.169.254"], ["10.0.0.1", "8.8.8.8"], ["fe80::1%eth0"]])
def test_a_name_is_refused_for_any_of_its_addresses(found: Sequence[str]) -> None:
    """Whoever answers for a name could hide an inner address behind a good one."""
    with pytest.raises(AddressError):
        resolve("https://hooks.example.com/", allows_private=False, look_up=lambda *_: found)


@pytest.mark.parametrize(
    "url",
    ["ftp://example.com", "file:///etc/passwd", "//example.com", "https://", "http://a:b@example.com", "http://x:0/",
     "http://x:99999/", "http://x y/", "http://[::1", "http://x/\r\nHost: y", "http://x/\x7f", "http://x..y/",
     f"http://{64 * 'x'}.example/", ""],
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    """A URL of another kind would be read in another way than it was checked."""
    with pytest.raises(AddressError):
        check_literal(url, allows_private=True)


@pytest.mark.parametrize("number", ["2130706433", "0x7f.1", "127.1", "017700000001"])
def test_other_spellings_of_an_address_are_checked_as_what_they_lead_to(number: str) -> None:
    """An address in another spelling, which the system's look-up understands, would pass as a name."""
    with pytest.raises(AddressError, match=r"127\.0\.0\.1 is a private address"):
        resolve(f"http://{number}/", allows_private=False)
    with pytest.raises(AddressError, match=r"127\.0\.0\.1 is a private address"):
        check_literal(f"http://{number}./", allows_private=False)


def test_localhost_is_refused_before_anything_is_sent() -> None:
    """A mistake in the configuration would show only when the first alert fails."""
    for host in ("localhost", "a.localhost", "LOCALHOST:80", "localhost."):
        with pytest.raises(AddressError, match=r"localhost.? is a private address"):
            check_literal(f"http://{host}/", allows_private=False)
    check_literal("http://localhost/", allows_private=True)
    check_literal("https://hooks.example.com/x", allows_private=False)


def test_an_international_name_is_written_in_ascii() -> None:
    """Its look-up and its header would name two hosts, of which one was checked."""
    with pytest.raises(AddressError, match="as xn--"):
        check_literal("http://bücher.example/", allows_private=True)
