"""The broker and its workers, through Celery and kombu: the one file of the server that imports them.

Messages go to their queue directly, by the default exchange, over a connection of their own with short timeouts. No
library may send one again by itself: after a lost answer that could run a job twice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import FrameSyntaxError, MessageNacked
from celery import Celery
from celery.app.utils import find_app
from celery.exceptions import SecurityError
from kombu import Connection, Producer
from kombu.exceptions import EncodeError, KombuError, SerializationError, SerializerNotInstalled

from sluice_agent.errors import ConfigError
from sluice_agent.server.actions.broker import (
    Broker,
    BrokerAwayError,
    RejectedError,
    Sender,
    StoredCall,
    Takers,
    TaskMessage,
    UnconfirmedError,
)

_AGENT_HEADER = "sluice_agent"  # a worker with the agent then knows that `queued` is reported, and since when
_CONNECT_TIMEOUT = 3.0  # seconds
_TIMEOUT = 5.0  # seconds for an answer of the broker or the result backend
_REPLY_TIMEOUT = 1.0  # seconds in which workers answer: Celery's own default
_COPIED = ("broker_", "result_", "redis_", "control_", "database_", "mongodb_", "cassandra_", "couchbase_", "s3_",
           "elasticsearch_", "task_default_delivery_mode", "task_default_queue", "task_routes", "task_queues",
           "task_create_missing_queues")  # fmt: skip
_PLAIN_SERIALIZERS = ("json", "yaml", "msgpack")  # none that runs code when it decodes
_ENCODING_ERRORS = (
    EncodeError, SerializerNotInstalled, FrameSyntaxError, struct.error, OverflowError, TypeError, ValueError
)  # fmt: skip
"""What is raised for values that a message can't have, before any of it is sent."""

_DECODING_ERRORS = (
    SerializationError, SerializerNotInstalled, SecurityError, LookupError, TypeError, ValueError, AttributeError
)  # fmt: skip
"""What is raised for an entry of a result backend that is not one of Celery's, or has another serializer."""

_REDIS_TIMEOUTS = {"socket_connect_timeout": _CONNECT_TIMEOUT, "socket_timeout": _TIMEOUT}
_AMQP_TIMEOUTS = {"confirm_publish": True, "read_timeout": _TIMEOUT, "write_timeout": _TIMEOUT}


def broker_at(address: str, result_backend: str | None = None) -> Broker:
    """Return the broker at `address`, a URL, or several, separated by ``;``. It is connected to when it is needed.

    Raises `ConfigError` if no connection can be made to such an address.
    """
    return _CeleryBroker({"broker_url": address, "result_backend": result_backend})


def broker_of_app(name: str) -> Broker:
    """Return the broker of the app that ``celery -A name`` finds, with its result backend and its transport's options.

    Raises `ConfigError` if there is no such app.
    """
    try:
        conf = find_app(name).conf
        options = {key: conf[key] for key in conf if key.startswith(_COPIED) and conf[key] is not None}
    except Exception as error:
        raise ConfigError(
            f"no Celery app is found as {name} ({type(error).__name__}: {error}): "
            f"`celery -A {name} report` must work in this directory and environment"
        ) from error
    return _CeleryBroker(options)


class _CeleryBroker:
    def __init__(self, options: Mapping[str, Any]) -> None:
        self._app = Celery("sluice", set_as_current=False, fixups=set())
        self._app.conf.update(options)
        self._has_backend = bool(self._app.conf.result_backend)
        _bound_times(self._app.conf)
        _check_address(self._app.conf)

    @contextmanager
    def sending(self) -> Iterator[Sender]:
        """Connect for sending."""
        with self._connected() as connection:
            yield _Sender(self._app, connection)

    def revoke(self, task_ids: Sequence[str]) -> None:
        """Ask all workers not to run these jobs."""
        with self._connected() as connection:
            self._control().revoke(list(task_ids), connection=connection)

    def registered_tasks(self) -> frozenset[str]:
        """Return the names of the tasks that live workers have."""
        with self._connected() as connection:
            replies = self._control().inspect(timeout=_REPLY_TIMEOUT, connection=connection).registered()
        entries = (entry for reply in (replies or {}).values() if isinstance(reply, list) for entry in reply)
        return frozenset(entry.partition(" [")[0] for entry in entries if isinstance(entry, str))

    def takers(self, queue: str) -> Takers:
        """Return who takes messages from a queue. A worker that can't be asked counts as one slot, where the broker
        itself knows of it."""
        with self._connected() as connection:
            waiting, consumers = _look_into(connection, queue)
            inspect = self._control().inspect
            queues = inspect(timeout=_REPLY_TIMEOUT, connection=connection).active_queues() or {}
            names = [worker for worker, found in queues.items() if any(entry["name"] == queue for entry in found)]
            if not names:
                return Takers(consumers, waiting)
            one_each = inspect(names, timeout=_REPLY_TIMEOUT, connection=connection, limit=len(names)).stats() or {}
        return Takers(sum(_slots_of(one_each.get(name)) for name in names), waiting)

    def queue_of(self, task: str) -> str:
        """Return the queue to which messages of a task go."""
        try:
            return str(self._app.amqp.router.route({}, task)["queue"].name)
        except Exception as error:  # an app's own routes may raise anything
            raise RejectedError(f"the routes of the app name no queue for {task} ({_describe(error)})") from error

    def queue_priority(self, priority: int) -> int:
        """Return the priority of a message. On Redis the lowest comes first."""
        is_amqp = self._app.connection_for_write().transport.driver_type == "amqp"
        return priority if is_amqp else 9 - priority

    def stored_call(self, task_id: str) -> StoredCall | None:
        """Return the call of a job in the result backend."""
        if not self._has_backend:
            return None
        try:
            meta = self._app.backend.get_task_meta(task_id, cache=False)
        except _DECODING_ERRORS as error:
            raise RejectedError(f"its entry in the result backend can't be read ({_describe(error)})") from error
        except Exception as error:
            raise BrokerAwayError(f"the result backend can't be read ({_describe(error)})") from error
        name, args, kwargs = (meta.get(field) for field in ("name", "args", "kwargs"))
        # Some backends keep texts as Python prints them, which nothing may evaluate.
        if not isinstance(name, str) or not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            return None
        return StoredCall(name, args, kwargs)

    def _control(self) -> Any:
        control = self._app.control.__class__(self._app)
        control.mailbox.producer_pool = None  # else it publishes over connections that the app keeps open
        return control

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Connect, and turn what the transport raises, then or later, into `BrokerAwayError`."""
        connection: Connection = self._app.connection_for_write(connect_timeout=_CONNECT_TIMEOUT)
        is_amqp = connection.transport.driver_type == "amqp"
        timeouts: Mapping[str, Any] = _AMQP_TIMEOUTS if is_amqp else _REDIS_TIMEOUTS
        connection.transport_options = {**connection.transport_options, **timeouts, "max_retries": 1}
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=_CONNECT_TIMEOUT)
            client = getattr(connection.default_channel, "client", None)
            if connection.transport.driver_type == "redis" and hasattr(client, "set_retry"):
                _disable_retries(client)
            yield connection
        except (*connection.connection_errors, *connection.channel_errors, KombuError, OSError) as error:
            raise BrokerAwayError(f"the broker can't be reached ({_describe(error)})") from error
        finally:
            _close(connection)


class _Sender:
    def __init__(self, app: Celery, connection: Connection) -> None:
        self._app = app
        self._connection = connection
        self._producer = Producer(connection.default_channel, auto_declare=False)
        self._known_queues: set[str] = set()

    def send(self, message: TaskMessage, task_id: str, created_at: str | None) -> None:
        """Send `message` under `task_id`."""
        self._require_queue(message.queue)
        headers, properties, body, _ = self._app.amqp.as_task_v2(
            task_id,
            message.name,
            args=message.args,
            kwargs=message.kwargs,
            time_limit=message.time_limit,
            soft_time_limit=message.soft_time_limit,
            ignore_result=message.ignore_result,
            shadow=message.shadow,
            retries=message.retries,
            expires=message.expires,
        )
        own = message.headers or {}
        if names := sorted(own.keys() & {*headers, _AGENT_HEADER}):  # such as `task`: another one than was permitted
            raise RejectedError(f"its headers replace those of Celery ({', '.join(names)})")
        reported = {} if created_at is None else {_AGENT_HEADER: {"createdAt": created_at}}
        if message.stamps:
            headers |= {"stamped_headers": list(message.stamps), "stamps": dict(message.stamps)}
        try:
            self._producer.publish(
                body,
                exchange="",
                routing_key=message.queue,
                serializer=message.serializer,
                headers={**headers, **own, **reported},
                priority=message.priority,
                delivery_mode=2,
                retry=False,
                confirm_timeout=_TIMEOUT,
                **properties,
            )
        except _ENCODING_ERRORS as error:
            raise RejectedError(
                f"its message can't be encoded with {message.serializer} ({_describe(error)})"
            ) from error
        except (MessageNacked, *self._connection.channel_errors) as error:
            raise RejectedError(f"the broker refuses it for the queue {message.queue} ({_describe(error)})") from error
        except (*self._connection.connection_errors, KombuError, OSError) as error:
            raise UnconfirmedError(
                f"the connection to the broker failed while {task_id} was sent ({_describe(error)}): it is unknown "
                "whether the broker has it"
            ) from error

    def _require_queue(self, queue: str) -> None:
        """Raise `RejectedError` if the broker has no such queue: RabbitMQ drops the message. Redis makes the queue."""
        if queue in self._known_queues or self._connection.transport.driver_type != "amqp":
            return
        try:
            with self._connection.channel() as channel:
                channel.queue_declare(queue=queue, passive=True)
        except _ENCODING_ERRORS as error:
            raise RejectedError(f"the broker can have no queue of that name ({_describe(error)})") from error
        except self._connection.channel_errors as error:
            raise RejectedError(f"the broker has no queue {queue} ({_describe(error)})") from error
        except (*self._connection.connection_errors, KombuError, OSError) as error:
            raise BrokerAwayError(f"the broker can't be reached ({_describe(error)})") from error
        self._known_queues.add(queue)


def _look_into(connection: Connection, queue: str) -> tuple[int, int]:
    """Return how many messages wait in a queue, and how many consumers it has: on Redis none, as those only look."""
    try:
        with connection.channel() as channel:
            found = channel.queue_declare(queue=queue, passive=True)
    except connection.channel_errors:  # there is no such queue; on Redis an empty one is none
        return 0, 0
    return int(found.message_count), int(found.consumer_count)


def _slots_of(stats: Any) -> int:
    """Return how many tasks a worker executes at a time, by its statistics."""
    try:
        return max(int(stats["pool"]["max-concurrency"]), 1)
    except (KeyError, TypeError, ValueError):
        return 1


def _bound_times(conf: Any) -> None:
    """Set what bounds the time of every call, and what a result backend's values may be decoded with."""
    conf.broker_pool_limit = None
    conf.result_accept_content = list(_PLAIN_SERIALIZERS)
    conf.redis_socket_timeout = _TIMEOUT
    conf.redis_socket_connect_timeout = _CONNECT_TIMEOUT
    conf.result_backend_transport_options = {
        **(conf.result_backend_transport_options or {}),
        "retry_policy": {"max_retries": 1, "timeout": _TIMEOUT},
    }


def _check_address(conf: Any) -> None:
    address = conf.broker_write_url or conf.broker_url or "amqp://"
    try:
        for url in address.split(";") if isinstance(address, str) else address:
            _ = Connection(url.strip()).transport
    except Exception as error:  # noqa: BLE001 - each transport raises others
        raise ConfigError(  # without the text of the error: it may contain the password
            f"the broker's address is malformed, or its library is not installed ({type(error).__name__}): it must be "
            "transport://user:password@host:port/name, with the password percent-encoded"
        ) from None


def _disable_retries(client: Any) -> None:
    """Keep redis-py from sending a command again whose answer was lost: it would add a message twice."""
    from redis.backoff import NoBackoff  # noqa: PLC0415 - redis-py is missing where no Redis is used
    from redis.retry import Retry  # noqa: PLC0415 - the same

    client.set_retry(Retry(NoBackoff(), 0))


def _close(connection: Connection) -> None:
    try:
        connection.release()
    except Exception:  # noqa: BLE001 - it has failed before, and is discarded
        return


def _describe(error: BaseException) -> str:
    """Return `error` in one line. Errors of brokers name hosts, and no passwords."""
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
