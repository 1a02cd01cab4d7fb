"""sluice-agent: reports everything that happens to every Celery job, worker and queue, and loses none of it.

Add two lines to the module that makes the Celery app, before or after the app is made::

    import sluice_agent
    sluice_agent.install()

A worker can be instrumented without a change of code: ``celery -A app worker -I sluice_agent.auto``.
"""

from __future__ import annotations

__version__ = "0.1.0"

from sluice_agent._public import flush, install, progress, shutdown, stats
from sluice_agent.errors import ConfigError, JournalUnavailableError, SluiceError
from sluice_agent.model import Event, EventType, Framework, Job, JobState, Queue, Worker, WorkerState
from sluice_agent.settings import Settings
from sluice_agent.stats import Stats

__all__ = [
    "ConfigError",
    "Event",
    "EventType",
    "Framework",
    "Job",
    "JobState",
    "JournalUnavailableError",
    "Queue",
    "Settings",
    "SluiceError",
    "Stats",
    "Worker",
    "WorkerState",
    "flush",
    "install",
    "progress",
    "shutdown",
    "stats",
]
