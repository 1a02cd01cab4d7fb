"""However many agents run, one samples each broker. They agree on it through that broker, so nothing else is needed.

Whoever leads holds something that the broker gives to one at a time, and takes away from those who die: in Redis a key
that expires, in RabbitMQ the place of a queue's single active consumer, in SQS a message that is invisible to others.
Somebody else leads within `TAKEOVER` seconds.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol
from uuid import uuid4

TERM = 18.0  # seconds that a leader leads without saying so again
LOOK_EVERY = 6.0  # seconds between two words of a leader, and between two tries of the others
TAKEOVER = TERM + LOOK_EVERY
HEARTBEAT = 6.0  # seconds; RabbitMQ gives up a silent connection after two to three of them

_NAP = 0.5  # seconds between two looks at whether to stop
_HOLD = 600.0  # seconds; RabbitMQ closes the channel of a consumer that keeps a message for half an hour
_IDLE_QUEUE = 600_000  # milliseconds that the election's queue outlives the last agent


class Election(Protocol):
    """One agent's standing. Raises what its connection raises."""

    def leads(self) -> bool:
        """Stand, or stay: whether this agent leads now. To be asked every `LOOK_EVERY` seconds."""
        ...

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Wait for so long, or until `stopped` is set."""
        ...

    def resign(self) -> None:
        """Let another lead at once."""
        ...


class NoElection:
    """The standing of an agent on a broker that can't hold an election: it leads."""

    def leads(self) -> bool:
        """It does."""
        return True

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Wait."""
        stopped.wait(seconds)

    def resign(self) -> None:
        """There is nobody else."""


class RedisElection(NoElection):
    """A key that the leader renews, and that expires with it. It takes no two keys, so a cluster can hold it."""

    def __init__(self, client: Any, name: str, owner: str) -> None:
        self._token = f"{owner} {uuid4().hex}"
        self._lock = client.lock(name, timeout=TERM, thread_local=False)
        self._leads = False

    def leads(self) -> bool:
        """Renew the key, or take it where nobody has it."""
        if self._leads and self._renewed():
            return True
        self._leads = bool(self._lock.acquire(blocking=False, token=self._token))
        return self._leads

    def resign(self) -> None:
        """Delete the key, if it is still ours."""
        if self._leads:
            self._leads = False
            self._lock.release()

    def _renewed(self) -> bool:
        from redis.exceptions import LockError  # noqa: PLC0415 - who has no Redis has no redis-py

        try:
            return bool(self._lock.reacquire())
        except LockError:  # it expired: the process was stopped, or Redis has lost it
            return False


class RabbitMQElection:
    """A queue with a single active consumer, and a token in it: whoever is handed the token leads.

    The leader keeps it unacknowledged, so that it is handed to the next one when the leader's connection ends.
    """

    def __init__(self, connection: Any, name: str, owner: str) -> None:
        self._connection = connection
        self._channel = connection.channel()
        self._held: int | None = None
        self._held_since = 0.0
        self._leads = False
        self._channel.queue_declare(
            queue=name,
            durable=True,  # its token is not; but RabbitMQ gives up queues that are neither durable nor exclusive
            auto_delete=False,
            arguments={"x-single-active-consumer": True, "x-max-length": 1, "x-expires": _IDLE_QUEUE},
        )
        token = self._channel.prepare_message(
            owner, content_type="text/plain", content_encoding="utf-8", properties={"delivery_mode": 1}
        )
        self._channel.basic_publish(token, routing_key=name)
        self._channel.basic_consume(name, callback=self._take)
        self._drain(_NAP)

    def leads(self) -> bool:
        """Whether the token came. It stays so while the channel does."""
        self._drain(0.01)
        if self._held is not None and time.monotonic() - self._held_since > _HOLD:
            held, self._held = self._held, None
            self._channel.basic_reject(held, requeue=True)  # the single active consumer is handed it again
        return self._leads

    def wait(self, seconds: float, stopped: threading.Event) -> None:
        """Wait, and keep the connection alive. It is over at once where the token comes meanwhile."""
        deadline, led = time.monotonic() + seconds, self._leads
        while not stopped.is_set() and self._leads is led and (left := deadline - time.monotonic()) > 0:
            self._drain(min(left, _NAP))
            self._connection.heartbeat_check()

    def resign(self) -> None:
        """Close the channel: what it holds is the next one's."""
        self._leads = False
        self._channel.close()

    def _take(self, message: Any) -> None:
        self._leads = True
        if self._held is not None:  # everyone that stands puts one in, so that there always is one
            self._channel.basic_ack(message.delivery_tag)
            return
        self._held, self._held_since = message.delivery_tag, time.monotonic()

    def _drain(self, seconds: float) -> None:
        try:
            self._connection.drain_events(timeout=seconds)
        except TimeoutError:
            return


class SQSElection(NoElection):
    """A message that one receiver at a time sees, in a FIFO queue of its own: whoever has received it leads."""

    def __init__(self, channel: Any, name: str, owner: str) -> None:
        own_name = channel.canonical_queue_name(f"{name}.fifo")
        self._client = channel.sqs(queue=own_name)
        self._owner = owner
        self._receipt: str | None = None
        attributes = {"FifoQueue": "true", "VisibilityTimeout": str(int(TERM))}
        self._url = self._client.create_queue(QueueName=own_name, Attributes=attributes)["QueueUrl"]

    def leads(self) -> bool:
        """Keep the message from the others, or receive it; put one there where there is none."""
        if self._receipt is not None and self._kept(int(TERM)):
            return True
        self._receipt = self._received()
        if self._receipt is None and self._is_empty():
            self._client.send_message(
                QueueUrl=self._url,
                MessageBody=self._owner,
                MessageGroupId="leader",  # while one of a group is with a receiver, nobody gets another of it
                MessageDeduplicationId=str(int(time.time() / TERM)),
            )
            self._receipt = self._received()
        return self._receipt is not None

    def resign(self) -> None:
        """Let the others see the message."""
        if self._receipt is not None:
            self._kept(0)
            self._receipt = None

    def _received(self) -> str | None:
        found = self._client.receive_message(QueueUrl=self._url, MaxNumberOfMessages=1).get("Messages", [])
        return str(found[0]["ReceiptHandle"]) if found else None

    def _kept(self, seconds: int) -> bool:
        from botocore.exceptions import ClientError  # noqa: PLC0415 - who has no SQS has no botocore

        try:
            self._client.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=self._receipt, VisibilityTimeout=seconds
            )
        except ClientError:  # it was ours for too long, or is another's by now
            return False
        return True

    def _is_empty(self) -> bool:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)["Attributes"]
        return not any(int(found[name]) for name in names)
