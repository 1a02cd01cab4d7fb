"""A Celery app for a cluster of which only the broker is known, and the source of its address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Connection

from sluice_agent.log import warn_limited


class BrokerApp(Celery):  # type: ignore[misc] # Celery is not typed
    """A Celery app with nothing but a broker. `address` is called for every connection: credentials may have changed.

    `event_exchange` is the exchange to which the workers publish their events, where it is not Celery's default.
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
        """Return a new connection, not yet open."""
        return super().connection_for_read(url or self._address(), **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Connection:
        """Return a new connection, not yet open."""
        return super().connection_for_write(url or self._address(), **options)


class AddressFile:
    """The address in a file, read at every call; the last valid one while the file holds none.

    Raises ValueError, with a sentence, where the file holds none at first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = self._read()

    def __call__(self) -> str:
        """Return the current address."""
        try:
            self._last = self._read()
        except ValueError as error:
            warn_limited("broker_file", "%s. The monitor uses the address that the file held before.", error)
        return self._last

    def _read(self) -> str:
        try:
            address = self._path.read_text(encoding="utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError(f"{self._path} is not text in UTF-8") from None
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
    """Raise ValueError, with a sentence, where `address`, or one of several, is none that a connection can be made to.

    It connects to nothing. The sentence leaves out the address, which may contain a password.
    """
    for url in address.split(";"):
        try:
            _ = Connection(url.strip()).transport
        except KeyError as error:
            raise ValueError(f"the broker's address is malformed: {error.args[0]}") from None
        except ImportError as error:
            raise ValueError(f"the broker's address needs a library that is not installed: {error}") from None
        except Exception:  # noqa: BLE001 - each transport raises other errors
            raise ValueError(
                "the broker's address is malformed: it must be transport://user:password@host:port/name, "
                "with the password percent-encoded"
            ) from None
