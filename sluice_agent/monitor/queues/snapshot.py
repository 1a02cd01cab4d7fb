"""A queue's depth as the event that is sent."""

from __future__ import annotations

from sluice_agent.model import EventType, Framework, encode, fitted
from sluice_agent.translation import timestamp


def queue_event(connection_id: str, name: str, ready: int, consumers: int | None, at: float) -> bytes:
    """The snapshot of the queue `name`, in which `ready` jobs waited at `at`, in seconds of the epoch."""
    queue = {"name": name, "depth": ready, "consumers": consumers}
    event = fitted(
        {
            "type": EventType.QUEUE_SNAPSHOT.value,
            "timestamp": timestamp(at),
            "framework": Framework.CELERY.value,
            "connectionId": connection_id,
            "queue": {field: value for field, value in queue.items() if value is not None},
        }
    )
    return encode(event)
