"""Depths in the brokers that kombu makes of something else: folders, databases, memory."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sluice_agent.monitor.queues.depth import Depth


class VirtualGauge:
    """Tells the queues that were asked for, as kombu's channel counts them. Such brokers don't know their consumers."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._channel = connection.channel()

    def depths(self, names: Collection[str], taken_from: Collection[str] | None = None) -> dict[str, Depth]:  # noqa: ARG002 (Gauge's)
        """What each queue that exists holds."""
        found = {}
        for name in names:
            try:
                found[name] = Depth(self._channel.queue_declare(queue=name, passive=True).message_count)
            except self._connection.channel_errors:  # it is not there
                continue
        return found
