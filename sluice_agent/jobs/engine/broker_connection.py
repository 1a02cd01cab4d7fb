"""The engine's connection to the broker, which stays open while messages are sent over it."""

from __future__ import annotations

import time
from contextlib import ExitStack

from sluice_agent.server.actions.broker import Broker, BrokerAwayError, Sender

_IDLE = 20.0  # seconds after which it is closed: nothing keeps it alive at the broker


class BrokerConnection:
    """A connection to `broker`. Only the thread of the engine uses it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._connection = ExitStack()
        self._sender: Sender | None = None
        self._used_at = 0.0

    def sender(self) -> Sender:
        """Return what sends over the connection, which is made if there is none. Raises `BrokerAwayError`."""
        self.close_if_idle()
        if self._sender is None:
            self._sender = self._connection.enter_context(self.broker.sending())
        self._used_at = time.monotonic()
        return self._sender

    def close_if_idle(self) -> None:
        """Close the connection if it was not used for long."""
        if self._sender is not None and time.monotonic() - self._used_at > _IDLE:
            self.close()

    def close(self) -> None:
        """Close the connection: the next message has another one."""
        self._sender = None
        try:
            self._connection.close()
        except BrokerAwayError:
            return
