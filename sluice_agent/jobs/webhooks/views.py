"""Webhooks as they are shown: without what is empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from sluice_agent.jobs.definitions.views import time_text
from sluice_agent.jobs.json_text import Raw
from sluice_agent.server.webhooks.schedule import DeliveryState


def delivery_view(row: Row[Any]) -> dict[str, Any]:
    """Return a webhook as it is listed."""
    next_at = {"next_attempt_at": time_text(row.due_at)} if row.state == DeliveryState.PENDING.value else {}
    last = _attempt(row.last_at, row.last_duration_ms, row.last_status, row.last_error) if row.last_at else None
    return {
        "id": row.id,
        "event": row.kind,
        "run_id": row.subject,
        "job_id": row.secret,
        "project_id": row.project_id,
        "url": row.url,
        "state": row.state,
        "attempts": row.attempts,
        "created_at": time_text(row.created_at),
        **next_at,
        **({"ended_at": time_text(row.ended_at)} if row.ended_at else {}),
        **({"last_attempt": last} if last else {}),
    }


def whole_delivery_view(row: Row[Any], attempts: Sequence[Row[Any]]) -> dict[str, Any]:
    """Return a webhook with its body, and its attempts whose end is known."""
    shown = [
        {"number": attempt.number, **_attempt(attempt.at, attempt.duration_ms, attempt.status, attempt.error)}
        for attempt in attempts
    ]
    return {**delivery_view(row), "body": Raw(row.body), "attempt_list": shown}


def _attempt(at: int, duration_ms: int, status: int | None, error: str | None) -> dict[str, Any]:
    return {
        "at": time_text(at),
        "duration_ms": duration_ms,
        **({} if status is None else {"status": status}),
        **({} if error is None else {"error": error}),
    }
