"""The address of the client that sends a request, also through proxies: what is counted against it, and not who it is.

A proxy appends the address of its own client to X-Forwarded-For. Any client can write that header too, so it is read
from its end, and only as far as proxies that are trusted have written it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from sluice_agent.errors import ConfigError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_OF_ONE_CLIENT = 64  # bits of an IPv6 address: a client has all addresses of such a network


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies whose X-Forwarded-For is believed: those in `networks`, and those on this machine."""

    networks: tuple[_Network, ...] = ()

    def client_of(self, peer: str, forwarded: Iterable[str]) -> str:
        """Return the address of the client whose request came from `peer`, an IPv6 one as its network of 64 bits.

        `forwarded` are the values of X-Forwarded-For, one for each line. A proxy that names no address stands for all
        of its clients.
        """
        address = _address_in(peer)
        if address is None:
            return peer
        hops = [hop for line in forwarded for hop in line.split(",")] if self._trusts(address) else []
        for hop in reversed(hops):
            client = _address_in(hop.strip())
            if client is None:
                break
            address = client
            if not self._trusts(address):
                break
        return _name_of(address)

    def _trusts(self, address: _Address) -> bool:
        return address.is_loopback or any(address in network for network in self.networks)


def proxies_of(values: Iterable[str]) -> Proxies:
    """Return the proxies with these addresses or networks. Raises `ConfigError` for what is neither."""
    networks = []
    for value in values:
        try:
            networks.append(ipaddress.ip_network(value, strict=False))
        except ValueError:
            message = f"--trusted-proxy takes an address or a network such as 10.0.0.0/8, and not {value!r}"
            raise ConfigError(message) from None
    return Proxies(tuple(networks))


def _address_in(text: str) -> _Address | None:
    """Return the address in `text`, which may have brackets and a port; an IPv4 one if it is written as IPv6."""
    host = text[1:].partition("]")[0] if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _name_of(address: _Address) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    prefix = int(address) >> (128 - _OF_ONE_CLIENT) << (128 - _OF_ONE_CLIENT)
    return f"{ipaddress.IPv6Address(prefix)}/{_OF_ONE_CLIENT}"
