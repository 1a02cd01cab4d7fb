"""What a publication is made for, where its message does not show it: beat's entry, or a job that lost its process."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

periodic_task: ContextVar[str | None] = ContextVar("sluice_agent_periodic_task", default=None)
"""The name of the schedule entry whose task beat publishes."""

retried: ContextVar[tuple[str, Mapping[str, str]] | None] = ContextVar("sluice_agent_retried", default=None)
"""The job that a worker's main process publishes again because a child was lost: its id, and its agent header."""
