"""Depths in SQS, by the attributes of a queue. AWS calls them approximate; there is no count of consumers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from botocore.exceptions import ClientError
from kombu.transport.SQS import (
    DoesNotExistQueueException,
    UndefinedQueueException,
)

from sluice_agent.log import complain
from sluice_agent.monitor.queues.readers import QueueDepth

_READY, _UNACKED = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
REFUSALS = (ClientError, UndefinedQueueException)
"""What an account that may not do a thing, or an app that may only use the queues in its settings, answers."""

_GONE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})


class SQSQueueReader:
    """Tells the queues that were asked for. Kombu's channel knows their prefix, region, account and predefined URLs."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def depths(self, names: Collection[str], taken_from: Collection[str] | None = None) -> dict[str, QueueDepth]:  # noqa: ARG002 (Gauge's)
        """What each queue that exists holds: messages that are visible, and those that a worker has."""
        return {name: depth for name in names if (depth := self._told(name)) is not None}

    def _told(self, name: str) -> QueueDepth | None:
        own_name = self._channel.canonical_queue_name(name)
        try:
            url = self._channel._resolve_queue_url(name)  # `_size` would make a queue that is not there
            client = self._channel.sqs(queue=own_name)
            found = client.get_queue_attributes(QueueUrl=url, AttributeNames=[_READY, _UNACKED])["Attributes"]
        except (DoesNotExistQueueException, UndefinedQueueException):
            return None
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code not in _GONE:
                complain("sqs", "SQS does not tell how deep %s is (%s): allow sqs:GetQueueAttributes.", name, code)
            self._channel._queue_cache.pop(own_name, None)  # it may come back elsewhere
            return None
        return QueueDepth(int(found[_READY]), unacked=int(found[_UNACKED]))
