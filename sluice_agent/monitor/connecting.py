"""The monitor's connections: how one is made, within seconds, and how one that has failed is dropped."""

from __future__ import annotations

from celery import Celery
from kombu import Connection

from sluice_agent.monitor.probe import HEARTBEAT, PING_AFTER

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
