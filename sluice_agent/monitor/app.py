"""A Celery app for a cluster of which only the broker is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery
from kombu import Connection


class BrokerApp(Celery):  # type: ignore[misc] # Celery is not typed
    """Knows no more than its broker. `address` is asked at each connection: the credentials in it may have changed."""

    def __init__(self, address: Callable[[], str], transport_options: Mapping[str, Any]) -> None:
        super().__init__("sluice", broker=address(), set_as_current=False, fixups=set())
        self.conf.broker_transport_options = dict(transport_options)
        self._address = address

    def connection_for_read(self, url: str | None = None, **options: Any) -> Connection:
        """A new connection, not yet open."""
        return super().connection_for_read(url or self._address(), **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Connection:
        """A new connection, not yet open."""
        return super().connection_for_write(url or self._address(), **options)
