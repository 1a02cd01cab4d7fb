"""Whether a connection on which nothing comes is still one: half-open ones stay silent for ever.

Below it lies TCP's keepalive, which the receiver asks for; but a proxy in between answers that in the broker's place.
"""

from __future__ import annotations

from typing import Any, Protocol

from kombu import Connection

HEARTBEAT = 8.0  # seconds: an AMQP broker that has nothing to say sends a sign of life at least as often
PING_AFTER = 5  # seconds of silence until Redis is asked for one; redis-py takes whole seconds


class CutOffError(ConnectionError):
    """The broker had closed the connection, and a library below has made another in silence: events are missing."""


class Probe(Protocol):
    """Looks for signs of life of one connection."""

    def is_alive(self) -> bool:
        """Whether the broker has said anything since the last call; asks it to, where it has to be asked.

        Raises what the connection raises.
        """


def probe_of(connection: Connection, channel: Any) -> Probe:
    """The probe for a connection whose `channel` is subscribed. To poll a broker is to probe it: others need none."""
    driver = connection.transport.driver_type
    if driver == "redis" and hasattr(channel.__dict__.get("subclient"), "check_health"):
        return _RedisProbe(channel.subclient)
    if connection.supports_heartbeats:
        return _AmqpProbe(connection)
    return _NoProbe()


class _NoProbe:
    def is_alive(self) -> bool:
        return True


class _AmqpProbe:
    """By AMQP's heartbeats: the library sends ours, and counts the frames that came."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._frames = -1

    def is_alive(self) -> bool:
        self._connection.heartbeat_check()
        before, self._frames = self._frames, self._connection.connection.bytes_recv
        return before != self._frames


class _RedisProbe:
    """By PING on the subscribed connection itself, the only one whose silence matters."""

    def __init__(self, subscription: Any) -> None:
        self._subscription = subscription
        self._reconnected = False
        subscription.connection.register_connect_callback(self._note_reconnect)

    def is_alive(self) -> bool:
        if self._reconnected:
            raise CutOffError("Redis had closed the connection")
        is_answered: bool = self._subscription.health_check_response_counter == 0
        if is_answered:  # one question at a time: redis-py would ask again at each look
            self._subscription.check_health()
        return is_answered

    def _note_reconnect(self, _: Any) -> None:
        self._reconnected = True
