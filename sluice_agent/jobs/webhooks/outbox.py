"""The webhook of a run that ends, written in the transaction that ends it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row

from sluice_agent.jobs.definitions.versions import version_at
from sluice_agent.jobs.definitions.views import time_text
from sluice_agent.jobs.json_text import Raw, dumps
from sluice_agent.jobs.status import TERMINAL, Status
from sluice_agent.server.webhooks.ledger import NewDelivery, add_delivery

KINDS = {status: f"run.{status.value}" for status in TERMINAL}
"""The kind of a delivery, by the status in which the run has ended."""


def add_webhook(writer: Connection, row: Row[Any], now: int) -> None:
    """Add the webhook of a run that has just ended, if the version of its job has a URL for it."""
    version = version_at(writer, row.job_id, row.job_version)
    if version is None or not version.settings.webhook_url:
        return
    kind = KINDS[Status(row.status)]
    add_delivery(writer, NewDelivery(kind, row.id, row.job_id, version.settings.webhook_url, _body(row, now)), now)


def _body(row: Row[Any], now: int) -> str:
    """Return what is sent of a run. Each attempt to send it has the same body."""
    return dumps(
        {
            **{name: getattr(row, name) for name in ("job_id", "project_id", "status", "attempt")},
            "run_id": row.id,
            **({} if row.result is None else {"result": Raw(row.result)}),
            **({} if row.error is None else {"error": row.error}),
            "timestamp": time_text(now),
        }
    )
