"""How deep the queues are, and how many workers take from them, from outside.

A thread with a connection of its own. Who samples is settled by an election through the broker, so any number of
sidecars and workers may run it. A file for each kind of broker; nothing of events or tasks may enter.
"""

from __future__ import annotations

from sluice_agent.monitor.queues.readers import QueueDepth
from sluice_agent.monitor.queues.sampler import Consumers, QueueSampler

__all__ = ["Consumers", "QueueDepth", "QueueSampler"]
