"""The monitor's broker connection: made within seconds, probed while nothing comes, and dropped when it has failed.

A half-open connection stays silent for ever. Below the probe lies TCP's keepalive, which `connect` asks for; but a
proxy in between answers that in the broker's place.
"""

from __future__ import annotations

from typing import Any, Protocol

from celery import Celery
from kombu import Connection

_CONNECT_SECONDS = 4.0
_SENTINEL_SECONDS = 1.0  # for one sentinel's answer: there are others, and each channel asks anew
_REDIS = {"socket_keepalive": True, "socket_connect_timeout": _CONNECT_SECONDS, "socket_timeout": 10.0}


def connect(app: Celery, failures: int) -> Connection:
    """A new connection to the broker, or to the next of several after each failure. Raises what the transport does."""
    options = {**_REDIS, **app.conf.broker_transport_options, "health_check_interval": PING_AFTER}
    connection: Connection = app.connection_for_read(
        heartbeat=HEARTBEAT, connect_timeout=_CONNECT_SECONDS, transport_options=options
    )
    for _ in range(failures):
        connection.maybe_switch_next()
    skip_dead_sentinels(connection)
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=_CONNECT_SECONDS)
    except BaseException:
        connection.release()
        raise
    return connection


def skip_dead_sentinels(connection: Connection) -> None:
    """Let `connection`, not yet open, ask the next Redis sentinel soon where one does not answer.

    redis-py would try the first for a quarter of a minute, for each channel. What the user has set for sentinels holds.
    """
    channel = getattr(connection.transport, "Channel", None)
    if "sentinel_kwargs" not in getattr(channel, "from_transport_options", ()):
        return
    from redis.backoff import NoBackoff  # noqa: PLC0415 - who has no Redis has no redis-py
    from redis.retry import Retry  # noqa: PLC0415 - the same

    ours = {
        "socket_connect_timeout": _SENTINEL_SECONDS,
        "socket_timeout": _SENTINEL_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    connection.transport_options["sentinel_kwargs"] = {
        **ours,
        **(connection.transport_options.get("sentinel_kwargs") or {}),
    }


def drop(connection: Connection) -> None:
    """Close a connection that has failed: over AMQP without a farewell, to which nobody might ever answer."""
    collect = getattr(connection._connection, "collect", None)  # the property would connect again
    if collect is not None:
        collect()
    connection.release()


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
