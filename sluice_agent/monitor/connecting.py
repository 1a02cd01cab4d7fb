"""The receiver's connections: how one is made, within seconds, and how one that has failed is dropped."""

from __future__ import annotations

from celery import Celery
from kombu import Connection

from sluice_agent.monitor.probe import HEARTBEAT, PING_AFTER

_CONNECT_SECONDS = 4.0
_REDIS = {"socket_keepalive": True, "socket_connect_timeout": _CONNECT_SECONDS, "socket_timeout": 10.0}


def connect(app: Celery, failures: int) -> Connection:
    """A new connection to the broker, or to the next of several after each failure. Raises what the transport does."""
    options = {**_REDIS, **app.conf.broker_transport_options, "health_check_interval": PING_AFTER}
    connection: Connection = app.connection_for_read(
        heartbeat=HEARTBEAT, connect_timeout=_CONNECT_SECONDS, transport_options=options
    )
    for _ in range(failures):
        connection.maybe_switch_next()
    try:
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=_CONNECT_SECONDS)
    except BaseException:
        connection.release()
        raise
    return connection


def drop(connection: Connection) -> None:
    """Close a connection that has failed: over AMQP without a farewell, to which nobody might ever answer."""
    collect = getattr(connection._connection, "collect", None)  # the property would connect again
    if collect is not None:
        collect()
    connection.release()
