"""The monitor's broker connection: made within seconds, probed while nothing arrives, and dropped when it has failed.

A half-open connection stays silent for ever. Below the probe lies TCP's keepalive, which `connect` asks for; but a
proxy in between answers that in the broker's place.
"""

from __future__ import annotations

from typing import Any, Protocol

from celery import Celery
from kombu import Connection

HEARTBEAT = 8.0  # seconds: an idle AMQP broker sends a heartbeat at least as often
PING_AFTER = 5  # seconds of silence until Redis is sent a PING; redis-py takes whole seconds

_CONNECT_TIMEOUT = 4.0
_SENTINEL_TIMEOUT = 1.0  # for the answer of one sentinel: there are others, and each channel asks anew
_REDIS_OPTIONS = {"socket_keepalive": True, "socket_connect_timeout": _CONNECT_TIMEOUT, "socket_timeout": 10.0}


class CutOffError(ConnectionError):
    """Raised where a library has silently replaced a connection that the broker had closed: events are missing."""


class Probe(Protocol):
    """Looks for signs of life of one connection."""

    def is_alive(self) -> bool:
        """Return whether the broker has sent anything since the last call; send a request where it must be asked.

        Raises what the connection raises.
        """


def connect(app: Celery, failures: int) -> Connection:
    """Connect to the broker, or to the next of several after each failure. Raises what the transport raises."""
    options = {**_REDIS_OPTIONS, **app.conf.broker_transport_options, "health_check_interval": PING_AFTER}
    connection: Connection = app.connection_for_read(
        heartbeat=HEARTBEAT, connect_timeout=_CONNECT_TIMEOUT, transport_options=options
    )
    for _ in range(failures):
        connection.maybe_switch_next()
    skip_dead_sentinels(connection)
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=_CONNECT_TIMEOUT)
    except BaseException:
        connection.release()
        raise
    return connection


def skip_dead_sentinels(connection: Connection) -> None:
    """Let `connection`, not yet open, soon try the next Redis sentinel where one does not answer.

    redis-py would try the first for a quarter of a minute, for each channel. The user's own sentinel options win.
    """
    channel = getattr(connection.transport, "Channel", None)
    if "sentinel_kwargs" not in getattr(channel, "from_transport_options", ()):
        return
    from redis.backoff import NoBackoff  # noqa: PLC0415 - redis-py is missing where no Redis is used
    from redis.retry import Retry  # noqa: PLC0415 - the same

    defaults = {
        "socket_connect_timeout": _SENTINEL_TIMEOUT,
        "socket_timeout": _SENTINEL_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
    }
    connection.transport_options["sentinel_kwargs"] = {
        **defaults,
        **(connection.transport_options.get("sentinel_kwargs") or {}),
    }


def disable_push_log(channel: Any) -> None:
    """Keep redis-py from formatting every message for a log that is switched off: a fifth of an event's cost.

    To be called after the first read, which makes the connection. Does nothing to other brokers, nor where redis-py has
    no such log.
    """
    connection = getattr(channel.__dict__.get("subclient"), "connection", None)
    set_handler = getattr(getattr(connection, "_parser", None), "set_pubsub_push_handler", None)
    if set_handler is not None:
        set_handler(lambda response: response)


def close_failed(connection: Connection) -> None:
    """Close a connection that has failed: over AMQP without a closing handshake, which might never be answered."""
    collect = getattr(connection._connection, "collect", None)  # the property would connect again
    if collect is not None:
        collect()
    connection.release()


def probe_for(connection: Connection, channel: Any) -> Probe:
    """Return the probe for a connection whose `channel` is subscribed. Other brokers are polled, which probes them."""
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
    """Uses AMQP's heartbeats: the library sends ours, and counts the bytes that arrive."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._bytes_received = -1

    def is_alive(self) -> bool:
        self._connection.heartbeat_check()
        before, self._bytes_received = self._bytes_received, self._connection.connection.bytes_recv
        return before != self._bytes_received


class _RedisProbe:
    """Sends PING on the subscribed connection itself, the only one whose silence matters."""

    def __init__(self, subscription: Any) -> None:
        self._subscription = subscription
        self._has_reconnected = False
        subscription.connection.register_connect_callback(self._on_reconnect)

    def is_alive(self) -> bool:
        if self._has_reconnected:
            raise CutOffError("Redis had closed the connection")
        is_answered: bool = self._subscription.health_check_response_counter == 0
        if is_answered:  # one PING at a time: redis-py would send another at every call
            self._subscription.check_health()
        return is_answered

    def _on_reconnect(self, _: Any) -> None:
        self._has_reconnected = True
