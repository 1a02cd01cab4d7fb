"""Elects the one agent that samples a broker, however many run. They agree through that broker alone.

The leader holds something that the broker gives to one client at a time, and takes away from one that dies: in Redis a
key that expires, in RabbitMQ the role of a queue's single active consumer, in SQS a message that is invisible to
others. Another agent leads within `TAKEOVER_SECONDS`.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol
from uuid import uuid4

TERM_SECONDS = 18.0  # that a leader leads without renewal
RENEW_EVERY = 6.0  # seconds between two renewals of a leader, and between two attempts of the others
TAKEOVER_SECONDS = TERM_SECONDS + RENEW_EVERY
HEARTBEAT = 6.0  # seconds; RabbitMQ gives up a silent connection after two to three of them

_STOP_CHECK_EVERY = 0.5  # seconds
_TOKEN_SECONDS = 600.0  # of holding the token; RabbitMQ closes the channel of a consumer that holds it for half an hour
_QUEUE_EXPIRES_MS = 600_000  # how long the election's queue outlives the last agent


class Election(Protocol):
    """One agent's part in an election. Raises what its connection raises."""

    def leads(self) -> bool:
        """Stand for election, or renew; return whether this agent leads. To be called every `RENEW_EVERY` seconds."""
        ...

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Wait for `seconds`, or until `stopped` is set."""
        ...

    def resign(self) -> None:
        """Let another lead at once."""
        ...


class NoElection:
    """The election of a broker that can't hold one: this agent leads."""

    def leads(self) -> bool:
        """Return True."""
        return True

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Wait for `seconds`, or until `stopped` is set."""
        stopped.wait(seconds)

    def resign(self) -> None:
        """Do nothing: there is no other candidate."""


class RedisElection(NoElection):
    """A key that the leader renews, and that expires with it. It is a single key, so a Redis cluster can hold it."""

    def __init__(self, client: Any, name: str, owner: str) -> None:
        self._token = f"{owner} {uuid4().hex}"
        self._lock = client.lock(name, timeout=TERM_SECONDS, thread_local=False)
        self._leads = False

    def leads(self) -> bool:
        """Renew the key, or set it where it is free."""
        if self._leads and self._renew():
            return True
        self._leads = bool(self._lock.acquire(blocking=False, token=self._token))
        return self._leads

    def resign(self) -> None:
        """Delete the key, if it is still ours."""
        if self._leads:
            self._leads = False
            self._lock.release()

    def _renew(self) -> bool:
        from redis.exceptions import LockError  # noqa: PLC0415 - redis-py is missing where no Redis is used

        try:
            return bool(self._lock.reacquire())
        except LockError:  # it expired: the process was stopped, or Redis has lost it
            return False


class RabbitMQElection:
    """A queue with a single active consumer, and a token in it: the agent that receives the token leads.

    The leader leaves it unacknowledged, so that the next agent receives it when the leader's connection ends.
    """

    def __init__(self, connection: Any, name: str, owner: str) -> None:
        self._connection = connection
        self._channel = connection.channel()
        self._token_tag: int | None = None
        self._token_at = 0.0
        self._leads = False
        self._channel.queue_declare(
            queue=name,
            durable=True,  # its token is not; but RabbitMQ gives up queues that are neither durable nor exclusive
            auto_delete=False,
            arguments={"x-single-active-consumer": True, "x-max-length": 1, "x-expires": _QUEUE_EXPIRES_MS},
        )
        token = self._channel.prepare_message(
            owner, content_type="text/plain", content_encoding="utf-8", properties={"delivery_mode": 1}
        )
        self._channel.basic_publish(token, routing_key=name)
        self._channel.basic_consume(name, callback=self._on_token)
        self._drain(_STOP_CHECK_EVERY)

    def leads(self) -> bool:
        """Return whether the token has arrived. It holds for the life of the channel."""
        self._drain(0.01)
        if self._token_tag is not None and time.monotonic() - self._token_at > _TOKEN_SECONDS:
            tag, self._token_tag = self._token_tag, None
            self._channel.basic_reject(tag, requeue=True)  # the single active consumer receives it again
        return self._leads

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Wait, and keep the connection alive. Returns at once where the token arrives meanwhile."""
        deadline, led = time.monotonic() + seconds, self._leads
        while not stopped.is_set() and self._leads is led and (left := deadline - time.monotonic()) > 0:
            self._drain(min(left, _STOP_CHECK_EVERY))
            self._connection.heartbeat_check()

    def resign(self) -> None:
        """Close the channel: the next agent receives the token."""
        self._leads = False
        self._channel.close()

    def _on_token(self, message: Any) -> None:
        self._leads = True
        if self._token_tag is not None:  # every candidate publishes a token, so that there always is one
            self._channel.basic_ack(message.delivery_tag)
            return
        self._token_tag, self._token_at = message.delivery_tag, time.monotonic()

    def _drain(self, seconds: float) -> None:
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError:
            return


class SQSElection(NoElection):
    """A message that one receiver at a time sees, in a FIFO queue for this alone: the agent that received it leads."""

    def __init__(self, channel: Any, name: str, owner: str) -> None:
        full_name = channel.canonical_queue_name(f"{name}.fifo")
        self._client = channel.sqs(queue=full_name)
        self._owner = owner
        self._receipt: str | None = None
        attributes = {"FifoQueue": "true", "VisibilityTimeout": str(int(TERM_SECONDS))}
        self._url = self._client.create_queue(QueueName=full_name, Attributes=attributes)["QueueUrl"]

    def leads(self) -> bool:
        """Keep the message invisible to others, or receive it; send one where the queue is empty."""
        if self._receipt is not None and self._hide(int(TERM_SECONDS)):
            return True
        self._receipt = self._receive()
        if self._receipt is None and self._is_empty():
            self._client.send_message(
                QueueUrl=self._url,
                MessageBody=self._owner,
                MessageGroupId="leader",  # while a receiver has one of a group, no other is delivered
                MessageDeduplicationId=str(int(time.time() / TERM_SECONDS)),
            )
            self._receipt = self._receive()
        return self._receipt is not None

    def resign(self) -> None:
        """Make the message visible to others."""
        if self._receipt is not None:
            self._hide(0)
            self._receipt = None

    def _receive(self) -> str | None:
        messages = self._client.receive_message(QueueUrl=self._url, MaxNumberOfMessages=1).get("Messages", [])
        return str(messages[0]["ReceiptHandle"]) if messages else None

    def _hide(self, seconds: int) -> bool:
        from botocore.exceptions import ClientError  # noqa: PLC0415 - botocore is missing where no SQS is used

        try:
            self._client.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=self._receipt, VisibilityTimeout=seconds
            )
        except ClientError:  # our term is over, or another agent has it by now
            return False
        return True

    def _is_empty(self) -> bool:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)["Attributes"]
        return not any(int(attributes[name]) for name in names)
