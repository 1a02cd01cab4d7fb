"""What a monitor says of itself, for probes and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MonitorState:
    """A monitor at one moment. Counts are those since it started."""

    connected: bool
    """Whether the receiver is subscribed to the broker's events, and the broker has answered lately."""
    connections: int
    """How often the receiver connected; none: it has never heard; more than one: it was cut off in between."""
    gaps: int
    """How often it was deaf for a while after it had heard."""
    gap_seconds: float
    """For how long altogether. In durable mode the events of that time wait in the queue, else they are missing."""
    silent_seconds: float
    """Since the broker's last sign of life: an event, or the answer to a probe; else since the start."""
    read_ahead_bytes: int
    """What is read from the broker and not yet decoded."""
    lag_seconds: float
    """How long the last event waited between its reading and its line."""
    undecodable: int
    """Messages that were no events."""
    events: Mapping[str, int]
    """The events that came, by Celery's name of their type."""
    remembered: int
    """Jobs in the observer's memory."""
    workers: int
    """Workers that the observer knows."""
    depths: Mapping[str, Any]
    """The latest sample of each queue, as the queue sampler keeps it."""
