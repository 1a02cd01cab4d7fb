"""The webhooks of runs as they are listed, and sent again.

All functions work in the transaction of their connection.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select

from sluice_agent.jobs.definitions.jobs import find_job
from sluice_agent.jobs.store.page import Page, PageRequest, read_page
from sluice_agent.jobs.store.schema import job, webhook_attempt, webhook_delivery
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.webhooks.ledger import send_again
from sluice_agent.server.webhooks.schedule import DeliveryState

_delivery = webhook_delivery.c


def list_deliveries(
    reader: Connection,
    project: str,
    wanted: PageRequest,
    *,
    state: DeliveryState | None = None,
    job_id: str | None = None,
    run_id: str | None = None,
) -> Page[Row[Any]]:
    """Return a page of the webhooks of a project's runs that fulfil all conditions, each with its last attempt."""
    query = _DELIVERIES.where(job.c.project_id == project)
    for column, value in ((_delivery.secret, job_id), (_delivery.subject, run_id), (_delivery.state, state)):
        if value is not None:
            query = query.where(column == (value.value if isinstance(value, DeliveryState) else value))
    return read_page(reader, query, (_delivery.created_at, _delivery.id), wanted, lambda row: row)


def find_delivery(reader: Connection, delivery_id: str, project: str | None) -> Row[Any]:
    """Return a webhook, with its body and its last attempt. Raises `RefusedError` (404) if there is none, or if it is
    not of the `project` that is demanded."""
    row = reader.execute(_DELIVERIES.where(_delivery.id == delivery_id)).one_or_none()
    if row is None or project not in (None, row.project_id):
        raise RefusedError(404, "Webhook delivery not found.")
    return row


def attempts_of(reader: Connection, delivery_id: str) -> list[Row[Any]]:
    """Return the attempts of a webhook whose end is known, the first one first."""
    query = select(webhook_attempt).where(webhook_attempt.c.delivery == delivery_id)
    return list(reader.execute(query.order_by(webhook_attempt.c.number)))


def send_webhook_again(writer: Connection, row: Row[Any], now: int) -> Row[Any]:
    """Let a webhook be sent again, with the same id and body, to the URL that its job has now, and return it.

    Raises `RefusedError` (409) if it is being sent at this moment.
    """
    url = find_job(writer, row.secret, None).settings.webhook_url
    if not send_again(writer, row.id, url or None, now):
        raise RefusedError(409, "The webhook is being sent at this moment: look at it again later.")
    return find_delivery(writer, row.id, None)


def _deliveries() -> Any:
    attempt = webhook_attempt.alias("attempt")
    other = webhook_attempt.alias("other")
    last = select(func.max(other.c.number)).where(other.c.delivery == _delivery.id).scalar_subquery()
    is_last = (attempt.c.delivery == _delivery.id) & (attempt.c.number == last)
    return (
        select(
            webhook_delivery,
            job.c.project_id,
            attempt.c.at.label("last_at"),
            attempt.c.duration_ms.label("last_duration_ms"),
            attempt.c.status.label("last_status"),
            attempt.c.error.label("last_error"),
        )
        .join(job, job.c.id == _delivery.secret)
        .outerjoin(attempt, is_last)
    )


_DELIVERIES = _deliveries()
