"""An app whose user changes events, drops some, and adds a redaction."""

from __future__ import annotations

from typing import Any

import sluice_agent
from tests.integration import tasks
from tests.integration.tasks import app, shared_task

__all__ = ["app", "greet", "secret_name", "tasks"]


def before_send(event: sluice_agent.Event) -> sluice_agent.Event | None:
    """Drop the jobs named noop, and hide the name of `secret_name`."""
    if event.job is not None and event.job.name.endswith(".noop"):
        return None
    if event.job is not None and event.job.name.endswith(".secret_name"):
        return event.model_copy(update={"job": event.job.model_copy(update={"name": "hidden"})})
    return event


def redact(name: str, value: Any) -> Any:
    """Send only lengths."""
    return {"length": len(value)} if isinstance(value, (list, tuple, dict, str)) else value


sluice_agent.install(before_send=before_send, redact=redact)


@shared_task
def greet(name: str) -> str:
    """Return something personal."""
    return f"Hello {name}"


@shared_task
def secret_name() -> None:
    """Do nothing, under a name that reveals too much."""
