"""Makes the sampler's own connection to a broker, and the queue reader and the election for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from sluice_agent.log import warn_limited
from sluice_agent.monitor.broker.connection import skip_dead_sentinels
from sluice_agent.monitor.queues.election import HEARTBEAT, Election, RabbitMQElection, RedisElection, SQSElection
from sluice_agent.monitor.queues.management import Management
from sluice_agent.monitor.queues.readers import QueueReader, RabbitMQQueueReader, RedisQueueReader, VirtualQueueReader

_AMQP, _REDIS, _SQS = "amqp", "redis", "sqs"  # kombu's names of its transports' drivers
_TIMEOUT = 10.0  # seconds for one answer, where the user set none: a half-open connection must not block the thread
_TIMEOUTS = {
    _AMQP: ("read_timeout", "write_timeout"),  # the timeout of connecting is broker_connection_timeout
    _REDIS: ("socket_connect_timeout", "socket_timeout"),
}


@contextmanager
def open_connection(app: Celery, failures: int) -> Iterator[Any]:
    """Yield a connection to the app's broker; each of the `failures` moves on to the next of a failover list."""
    with app.connection_for_read(heartbeat=HEARTBEAT) as connection:
        for _ in range(failures % max(len(connection.alt or ()), 1)):
            connection.maybe_switch_next()
        for option in _TIMEOUTS.get(connection.transport.driver_type, ()):
            connection.transport_options.setdefault(option, _TIMEOUT)
        skip_dead_sentinels(connection)
        connection.connect()  # before the election, which a refused login must not look like a refusal of
        yield connection


def reader_for(app: Celery, connection: Any, management_url: str | None) -> QueueReader:
    """Return the queue reader for this broker. Raises ValueError where the management API's address is not valid."""
    kind = connection.transport.driver_type
    if kind == _AMQP:
        return RabbitMQQueueReader(connection, _management(connection, management_url))
    if kind == _REDIS:
        exchanges = (queue.exchange.name for queue in app.amqp.queues.values() if queue.exchange is not None)
        return RedisQueueReader(connection.default_channel, (name for name in exchanges if name))
    if kind == _SQS:
        from sluice_agent.monitor.queues.sqs import SQSQueueReader  # noqa: PLC0415 - boto3 is missing where no SQS is used

        return SQSQueueReader(connection.default_channel)
    return VirtualQueueReader(connection)


def election_for(connection: Any, name: str, owner: str) -> Election | None:
    """Return the election to stand in; None where this broker can hold none, or its user may not."""
    kind = connection.transport.driver_type
    try:
        if kind == _REDIS:
            election = RedisElection(connection.default_channel.client, name, owner)
            election.leads()  # the first command that shows whether the user may
            return election
        if kind == _AMQP:
            return RabbitMQElection(connection, name, owner)
        if kind == _SQS:
            return SQSElection(connection.default_channel, name, owner)
    except Exception as error:
        if not isinstance(error, _refusals(connection)):
            raise
        reason = f"{type(error).__name__}: {error}"
        warn_limited(
            "election", "The broker refuses %s, by which agents elect the one that samples (%s).", name, reason
        )
    return None


def _refusals(connection: Any) -> tuple[type[Exception], ...]:
    kind = connection.transport.driver_type
    if kind == _AMQP:
        return tuple(connection.channel_errors)
    if kind == _REDIS:
        from redis.exceptions import NoPermissionError  # noqa: PLC0415 - redis-py is missing where no Redis is used

        return (NoPermissionError,)
    from sluice_agent.monitor.queues.sqs import REFUSALS  # noqa: PLC0415 - boto3 is missing where no SQS is used

    return REFUSALS


def _management(connection: Any, url: str | None) -> Management | None:
    if url is None:
        return None
    return Management(url, connection.virtual_host or "/", connection.userid or "guest", connection.password or "guest")
