"""An app whose user changes events, drops some, and has a redaction of its own."""

from __future__ import annotations

from typing import Any

import sluice_agent
from tests.integration import tasks
from tests.integration.tasks import app, shared_task

__all__ = ["app", "greet", "secret_name", "tasks"]


def before_send(event: sluice_agent.Event) -> sluice_agent.Event | None:
    """Jobs named noop are nobody's business, and everybody's name is hidden."""
    if event.job is not None and event.job.name.endswith(".noop"):
        return None
    if event.job is not None and event.job.name.endswith(".secret_name"):
        return event.model_copy(update={"job": event.job.model_copy(update={"name": "hidden"})})
    return event


def redact(name: str, value: Any) -> Any:
    """Only lengths leave the house."""
    return {"length": len(value)} if isinstance(value, (list, tuple, dict, str)) else value


sluice_agent.install(before_send=before_send, redact=redact)


@shared_task
def greet(name: str) -> str:
    """Say something personal."""
    return f"Hello {name}"


@shared_task
def secret_name() -> None:
    """A task with a name that tells too much."""
