"""Samples the depth of the queues, and how many workers consume from them, from outside.

A thread with its own connection. An election through the broker decides which process samples, so any number of
sidecars and workers may run it. Nothing of events or tasks may enter this package.
"""

from __future__ import annotations

from sluice_agent.monitor.queues.readers import QueueDepth
from sluice_agent.monitor.queues.sampler import Consumers, QueueSampler

__all__ = ["Consumers", "QueueDepth", "QueueSampler"]
