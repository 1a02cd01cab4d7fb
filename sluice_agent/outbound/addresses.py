"""The network addresses that a request may go to, so that a URL can't reach into the network of the server.

What a name resolves to is checked, and the request goes to just that address: a second look-up could give another one.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve: TypeAlias = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host and port. Raises `OSError` if there are none."""

_PORTS = {"http": 80, "https": 443}
_NEVER = tuple(
    map(
        ipaddress.ip_network,
        (
            "169.254.0.0/16",  # link-local: the metadata of most clouds
            "fe80::/10",
            "100.100.100.200/32",  # metadata of Alibaba Cloud
            "fd00:ec2::/32",  # metadata of AWS
            "::ffff:0:0/96",  # IPv4 in IPv6: by NAT64 and the next two also addresses that are refused are reached
            "64:ff9b::/96",
            "64:ff9b:1::/48",
            "2002::/16",  # 6to4
            "2001::/32",  # Teredo
        ),
    )
)
_PRIVATE = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "::1/128", "fc00::/7"),
    )
)


_NEVER_NAMES = frozenset(("metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"))
"""Names under which clouds answer with credentials: their addresses are refused too, where they are known."""


class AddressError(ValueError):
    """A URL that can't be requested, or an address that may not be. The message is a sentence without its full stop."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads: its host as it is written, port, and addresses that were checked, of which there is one."""

    scheme: str
    host: str
    port: int
    addresses: tuple[str, ...]


def parse_url(url: str) -> SplitResult:
    """Return the parts of an absolute URL of HTTP. Raises `AddressError` for any other."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressError(f"it is no URL ({error})") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise AddressError("it must begin with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise AddressError("it must have no user and no password")
    if not parts.hostname.isascii():
        raise AddressError("its host must be written in ASCII, an international one as xn--…")
    try:
        parts.hostname.encode("idna")  # as the look-up does
    except UnicodeError:
        raise AddressError("its host has a part that is empty, or longer than 63 characters") from None
    if port == 0 or any(character.isspace() or ord(character) < 33 or character == "\x7f" for character in url):
        raise AddressError("it has a port or a character that no URL has")
    return parts


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL, for pages and logs: its path may be a secret of the receiver."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def check_literal(url: str, *, allows_private: bool) -> None:
    """Raise `AddressError` if `url` is none, or names an address, or localhost, that may not be requested."""
    _check_host(parse_url(url).hostname or "", allows_private=allows_private)


def resolve(url: str, *, allows_private: bool, look_up: Resolve | None = None) -> Target:
    """Return where `url` leads. Raises `AddressError` if one of its addresses may not be requested.

    It blocks as long as the look-up does. Raises `OSError` if the host has no address.
    """
    parts = parse_url(url)
    host = parts.hostname or ""
    port = parts.port or _PORTS[parts.scheme]
    _check_host(host, allows_private=allows_private)
    literal = _address(host)
    found = [str(literal)] if literal is not None else (look_up or look_up_host)(host, port)
    if not found:
        raise OSError(f"{host} has no address")
    for text in found:
        address = _address(text)
        if address is None:
            raise AddressError(f"{text}, which {host} is at, is no address")
        _check(address, allows_private=allows_private)
    return Target(parts.scheme, host, port, tuple(found))


def _check_host(host: str, *, allows_private: bool) -> None:
    """Raise `AddressError` if a host may not be requested, whatever its address is."""
    address = _address(host)
    name = host.rstrip(".")
    if address is not None:
        _check(address, allows_private=allows_private)
    elif name in _NEVER_NAMES:
        raise AddressError(f"{host} is never requested: it leads to what only this machine should reach")
    elif not allows_private and (name == "localhost" or name.endswith(".localhost")):
        raise AddressError(f"{host} is a private address")


def _check(address: Address, *, allows_private: bool) -> None:
    if any(address in network for network in _NEVER):
        raise AddressError(f"{address} is never requested: it leads to what only this machine should reach")
    if any(address in network for network in _PRIVATE):
        if not allows_private:
            raise AddressError(f"{address} is a private address")
    elif not address.is_global or address.is_multicast:
        raise AddressError(f"{address} is no address of a server")


def _address(text: str) -> Address | None:
    """Return the address that a text is, in any form that a system reads as one, such as 127.1 or 0x7f000001."""
    with suppress(ValueError):
        return ipaddress.ip_address(text.partition("%")[0])
    with suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(text.rstrip(".")))
    return None


def look_up_host(host: str, port: int) -> list[str]:
    """Return the addresses of a host from the system. It blocks. Raises `OSError` if there are none."""
    entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))
