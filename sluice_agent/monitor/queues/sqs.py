"""Reads depths in SQS, by the attributes of a queue. AWS calls them approximate; there is no count of consumers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from botocore.exceptions import ClientError
from kombu.transport.SQS import (
    DoesNotExistQueueException,
    UndefinedQueueException,
)

from sluice_agent.log import warn_limited
from sluice_agent.monitor.queues.readers import QueueDepth

_READY, _UNACKED = "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"
REFUSALS = (ClientError, UndefinedQueueException)
"""Errors for an account without the permission, and for an app that may only use the queues in its settings."""

_GONE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})


class SQSQueueReader:
    """Reads the given queues. Kombu's channel knows their prefix, region, account and predefined URLs."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def depths(self, names: Collection[str], consumed: Collection[str] | None = None) -> dict[str, QueueDepth]:  # noqa: ARG002 (QueueReader's)
        """Return the depth of each queue that exists: messages that are visible, and those that a worker has."""
        return {name: depth for name in names if (depth := self._read(name)) is not None}

    def _read(self, name: str) -> QueueDepth | None:
        full_name = self._channel.canonical_queue_name(name)
        try:
            url = self._channel._resolve_queue_url(name)  # `_size` would create a queue that is absent
            client = self._channel.sqs(queue=full_name)
            attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=[_READY, _UNACKED])["Attributes"]
        except (DoesNotExistQueueException, UndefinedQueueException):
            return None
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code not in _GONE:
                warn_limited("sqs", "SQS refuses the depth of %s (%s): allow sqs:GetQueueAttributes.", name, code)
            self._channel._queue_cache.pop(full_name, None)  # it may return under another URL
            return None
        return QueueDepth(int(attributes[_READY]), unacked=int(attributes[_UNACKED]))
