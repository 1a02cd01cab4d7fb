"""sluice-agent: reports everything that happens to every Celery job, worker and queue, and loses none of it.

Add two lines to the module that makes the Celery app, before or after the app is made::

    import sluice_agent
    sluice_agent.install()

A worker can be instrumented without a change of code: ``celery -A app worker -I sluice_agent.auto``.
"""

from __future__ import annotations

__version__ = "0.1.0"

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sluice_agent._public import flush, install, progress, shutdown, stats
from sluice_agent.errors import ConfigError, JournalUnavailableError, SluiceError
from sluice_agent.stats import Stats

if TYPE_CHECKING:
    from sluice_agent.event import Event, Job, Queue, Worker
    from sluice_agent.model import EventType, Framework, JobState, WorkerState
    from sluice_agent.settings import Settings

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

_MODULES = {
    **dict.fromkeys(("Event", "Job", "Queue", "Worker"), "event"),
    **dict.fromkeys(("EventType", "Framework", "JobState", "WorkerState"), "model"),
    "Settings": "settings",
}
"""The modules of the names that are imported when they are first used: `event` loads pydantic."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
