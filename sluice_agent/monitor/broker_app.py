"""A Celery app for a cluster of which only the broker is known, and that broker's address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Connection

from sluice_agent.log import complain


class BrokerApp(Celery):  # type: ignore[misc] # Celery is not typed
    """Knows no more than its broker. `address` is asked at each connection: the credentials in it may have changed.

    `event_exchange` is where the cluster's workers publish their events, if that is not Celery's default.
    """

    def __init__(
        self, address: Callable[[], str], transport_options: Mapping[str, Any], event_exchange: str | None = None
    ) -> None:
        super().__init__("sluice", broker=address(), set_as_current=False, fixups=set())
        self.conf.broker_transport_options = dict(transport_options)
        if event_exchange:
            self.conf.event_exchange = event_exchange
        self._address = address

    def connection_for_read(self, url: str | None = None, **options: Any) -> Connection:
        """A new connection, not yet open."""
        return super().connection_for_read(url or self._address(), **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Connection:
        """A new connection, not yet open."""
        return super().connection_for_write(url or self._address(), **options)


class AddressFile:
    """The address that a file holds, read at each call; the last good one while it holds none.

    Raises ValueError, with a sentence, where it holds none from the first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = self._read()

    def __call__(self) -> str:
        """The address as of now."""
        try:
            self._last = self._read()
        except ValueError as error:
            complain("broker_file", "%s; the address that it held before is used.", error)
        return self._last

    def _read(self) -> str:
        try:
            address = self._path.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError(f"{self._path} is no text in UTF-8") from None
        except OSError as error:
            raise ValueError(f"{self._path} can't be read: {error.strerror or error}") from None
        if not address:
            raise ValueError(f"{self._path} is empty: it must hold the broker's address")
        try:
            check_address(address)
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from None
        return address


def check_address(address: str) -> None:
    """Raises ValueError, with a sentence, where `address`, or one of several, is none that a connection can be made to.

    Nothing connects here. The sentence does not hold the address, in which there may be a password.
    """
    for one in address.split(";"):
        try:
            _ = Connection(one.strip()).transport
        except KeyError as error:
            raise ValueError(f"the broker's address is malformed: {error.args[0]}") from None
        except ImportError as error:
            raise ValueError(f"the broker's address needs a library that is not installed: {error}") from None
        except Exception:  # noqa: BLE001 - each transport has errors of its own
            raise ValueError(
                "the broker's address is malformed: it is transport://user:password@host:port/name, "
                "with the password percent-encoded"
            ) from None
