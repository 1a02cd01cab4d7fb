"""Who can reach the server, and by which names: what its addresses and the headers of a request show.

A request is *exposed* if it may come from another machine. A server that listens on loopback is exposed too, if a proxy
passes requests on to it. A proxy shows by a header, by HTTP/1.0 (nginx's before 1.30), or by a name that was allowed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sluice_agent.errors import ConfigError

_FORWARDED_PREFIX = "x-forwarded-"
_FORWARDED = {"forwarded", "via", "x-real-ip"}
_OLD_HTTP = "1.0"
_LOCALHOST = "localhost"


@dataclass(frozen=True, slots=True)
class Exposure:
    """The rules of one server. `names` are the names in Host that it answers to, beside those of loopback."""

    names: frozenset[str]
    is_open: bool
    """True if the server listens on another address than loopback, or answers to a name that is not loopback's."""

    takes_any_address: bool
    """True if it listens on all addresses. A page elsewhere can rebind a name, but not an address."""

    def allows_host(self, host: str) -> bool:
        """Return whether the value of a Host header names this server. Its port does not matter."""
        name = _name_in(host)
        return name in self.names or is_loopback(name) or (self.takes_any_address and _is_address(name))

    def is_exposed(self, http_version: str, headers: Mapping[str, str]) -> bool:
        """Return whether a request, with these `headers` by lower-case name, may come from another machine."""
        return self.is_open or http_version == _OLD_HTTP or any(map(_is_of_a_proxy, headers))


def exposure_of(host: str, allowed: Iterable[str] = ()) -> Exposure:
    """Return the rules of a server that listens on `host` and answers to the names `allowed` too.

    Raises `ConfigError` for a name that is not a host.
    """
    names = {_name_in(name) for name in allowed}
    for name in allowed:
        if "/" in name or not _name_in(name):
            raise ConfigError(f"--allow-host takes a host name such as sluice.example.com, and not {name!r}")
    own = _name_in(f"[{host}]" if ":" in host else host)
    takes_any = _is_address(own) and ipaddress.ip_address(own).is_unspecified
    is_open = not is_loopback(own) or not all(map(is_loopback, names))
    return Exposure(frozenset(names | {own}), is_open, takes_any)


def is_loopback(name: str) -> bool:
    """Return whether `name`, a host name or an address, is one of this machine's loopback."""
    if _is_address(name):
        return ipaddress.ip_address(name).is_loopback
    return name == _LOCALHOST or name.endswith(f".{_LOCALHOST}")


def is_secure(scheme: str, headers: Mapping[str, str]) -> bool:
    """Return whether the client's connection is encrypted, by the server itself or by a proxy before it."""
    forwarded = headers.get("forwarded", "").lower().replace('"', "")
    proto = headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return scheme == "https" or proto == "https" or "proto=https" in forwarded


def _is_of_a_proxy(header: str) -> bool:
    return header in _FORWARDED or header.startswith(_FORWARDED_PREFIX)


def _name_in(host: str) -> str:
    """Return the name or address in `host` without its port, brackets and final dot; empty if there is none."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
