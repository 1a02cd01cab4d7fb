"""Deliveries of webhooks, and their attempts."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, func, select

from sluice_agent.server.store.webhook_tables import webhook_attempt, webhook_delivery


class Attempt(NamedTuple):
    """One attempt at a moment. `status` is None if there was no response."""

    number: int
    at: int
    duration_ms: int
    status: int | None
    error: str | None


class DeliveryRow(NamedTuple):
    """A delivery with its last attempt whose end is known, if there is one. Times are moments."""

    id: str
    kind: str
    subject: str
    url: str
    state: str
    created_at: int
    attempts: int
    due_at: int
    ended_at: int | None
    last: Attempt | None


def latest_deliveries(reader: Connection, limit: int) -> list[DeliveryRow]:
    """Return the newest deliveries, the newest first."""
    newest = select(webhook_delivery).order_by(webhook_delivery.c.created_at.desc(), webhook_delivery.c.id).limit(limit)
    rows = reader.execute(newest).all()
    attempt = webhook_attempt.c
    last_numbers = (
        select(attempt.delivery.label("delivery"), func.max(attempt.number).label("number"))
        .where(attempt.delivery.in_([row.id for row in rows]))
        .group_by(attempt.delivery)
        .subquery()
    )
    is_last = (attempt.delivery == last_numbers.c.delivery) & (attempt.number == last_numbers.c.number)
    lasts = reader.execute(select(webhook_attempt).join(last_numbers, is_last))
    by_delivery = {row.delivery: Attempt(*row[1:]) for row in lasts}
    return [
        DeliveryRow(
            row.id, row.kind, row.subject, row.url, row.state, row.created_at, row.attempts, row.due_at, row.ended_at,
            by_delivery.get(row.id),
        )
        for row in rows
    ]  # fmt: skip


def attempts_of(reader: Connection, delivery: str) -> list[Attempt]:
    """Return the attempts of a delivery whose end is known, the first one first."""
    rows = select(webhook_attempt).where(webhook_attempt.c.delivery == delivery).order_by(webhook_attempt.c.number)
    return [Attempt(*row[1:]) for row in reader.execute(rows)]
