"""Which gauge and which election belong to a broker, and the connection to it that is the sampler's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from sluice_agent.log import complain
from sluice_agent.monitor.connection import skip_dead_sentinels
from sluice_agent.monitor.queues.election import HEARTBEAT, Election, RabbitMQElection, RedisElection, SQSElection
from sluice_agent.monitor.queues.management import Management
from sluice_agent.monitor.queues.readers import QueueReader, RabbitMQQueueReader, RedisQueueReader, VirtualQueueReader

_AMQP, _REDIS, _SQS = "amqp", "redis", "sqs"  # kombu's names of the kinds of transport
_PATIENCE = 10.0  # seconds for one answer, where the user has set no other: a half-open connection must not hang us
_TIMEOUTS = {
    _AMQP: ("read_timeout", "write_timeout"),  # that of connecting is broker_connection_timeout
    _REDIS: ("socket_connect_timeout", "socket_timeout"),
}


@contextmanager
def opened(app: Celery, failures: int) -> Iterator[Any]:
    """A connection to the app's broker; after `failures` of them, the next broker of a failover list is tried."""
    with app.connection_for_read(heartbeat=HEARTBEAT) as connection:
        for _ in range(failures % max(len(connection.alt or ()), 1)):
            connection.maybe_switch_next()
        for option in _TIMEOUTS.get(connection.transport.driver_type, ()):
            connection.transport_options.setdefault(option, _PATIENCE)
        skip_dead_sentinels(connection)
        connection.connect()  # before an election is held: a login that is refused is no refusal of that
        yield connection


def reader_for(app: Celery, connection: Any, management_url: str | None) -> QueueReader:
    """What asks this broker. Raises ValueError where the management API's address is none."""
    kind = connection.transport.driver_type
    if kind == _AMQP:
        return RabbitMQQueueReader(connection, _management(connection, management_url))
    if kind == _REDIS:
        exchanges = (queue.exchange.name for queue in app.amqp.queues.values() if queue.exchange is not None)
        return RedisQueueReader(connection.default_channel, (name for name in exchanges if name))
    if kind == _SQS:
        from sluice_agent.monitor.queues.sqs import SQSQueueReader  # noqa: PLC0415 - who has no SQS has no boto3

        return SQSQueueReader(connection.default_channel)
    return VirtualQueueReader(connection)


def election_for(connection: Any, name: str, owner: str) -> Election | None:
    """Where this agent stands. None: this broker holds no elections, or this user may not."""
    kind = connection.transport.driver_type
    try:
        if kind == _REDIS:
            election = RedisElection(connection.default_channel.client, name, owner)
            election.leads()  # whether this user may is not known before
            return election
        if kind == _AMQP:
            return RabbitMQElection(connection, name, owner)
        if kind == _SQS:
            return SQSElection(connection.default_channel, name, owner)
    except Exception as error:
        if not isinstance(error, _refusals(connection)):
            raise
        why = f"{type(error).__name__}: {error}"
        complain("election", "The broker refuses %s, by which agents agree who samples (%s).", name, why)
    return None


def _refusals(connection: Any) -> tuple[type[Exception], ...]:
    kind = connection.transport.driver_type
    if kind == _AMQP:
        return tuple(connection.channel_errors)
    if kind == _REDIS:
        from redis.exceptions import NoPermissionError  # noqa: PLC0415 - who has no Redis has no redis-py

        return (NoPermissionError,)
    from sluice_agent.monitor.queues.sqs import REFUSALS  # noqa: PLC0415 - who has no SQS has no boto3

    return REFUSALS


def _management(connection: Any, url: str | None) -> Management | None:
    if url is None:
        return None
    return Management(url, connection.virtual_host or "/", connection.userid or "guest", connection.password or "guest")
