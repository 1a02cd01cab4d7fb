"""A cluster watched from outside: the broker's events and queues in our model, for workers that can't be changed.

Imports Celery and kombu, and nothing of the transport or the settings: it is given callables and plain values.
"""

from __future__ import annotations

from sluice_agent.monitor.state import MonitorState

__all__ = ["MonitorState"]
