"""``/settings``: what the server keeps, how far back it reaches, and who is signed in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from sluice_agent.outbound.addresses import origin_of
from sluice_agent.server.access.principal import Principal
from sluice_agent.server.access.sessions import Session
from sluice_agent.server.pages.forms import may_manage
from sluice_agent.server.pages.render import Layout, render
from sluice_agent.server.pages.scope import ConnectionId, PageViewer, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.alerts import all_alerts
from sluice_agent.server.queries.health import counts
from sluice_agent.server.queries.size import bytes_on_disk, events_of_day
from sluice_agent.server.queries.webhook_deliveries import latest_deliveries
from sluice_agent.server.store.retention import Keep
from sluice_agent.server.store.schema import DAY, HOURS_KEPT, MINUTES_KEPT
from sluice_agent.server.timestamps import timestamp_of, to_moment

_WEBHOOKS = 20  # deliveries that are shown


class SessionRow(NamedTuple):
    """A browser that is signed in."""

    id: str
    role: str
    created_at: str
    last_used_at: str | None
    expires_at: str
    is_own: bool


class AlertRow(NamedTuple):
    """A rule of alerts and its state."""

    rule: str
    condition: str
    phase: str
    text: str
    evaluated_at: str


class WebhookRow(NamedTuple):
    """A delivery of a webhook: what it is about, scheme and host of its address, and the result of the last attempt."""

    id: str
    subject: str
    host: str
    state: str
    attempts: int
    result: str
    created_at: str
    due_at: str | None


class SettingsView(NamedTuple):
    """The options of the server and its present state. Times are timestamps, sizes bytes."""

    keep: Keep
    database: str
    size: int
    jobs: int
    reaches_back_to: str | None
    minutes_kept: int
    hours_kept: int
    """Days that counts of each minute, and of each hour, are kept."""
    daily_limit: int | None
    events_today: int | None
    alerts: Sequence[AlertRow]
    webhooks: Sequence[WebhookRow]
    sessions: Sequence[SessionRow]


def settings_router(sources: Sources) -> APIRouter:
    """Return the route of the settings."""
    router = APIRouter()

    @router.get("/settings")
    def settings(request: Request, principal: PageViewer, connection_id: ConnectionId = None) -> HTMLResponse:
        now = sources.now()
        oldest = sources.store.reaches_back_to()
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
            shown = scope.connection
            view = SettingsView(
                keep=sources.keep,
                database="PostgreSQL" if sources.store.is_shared else "SQLite",
                size=bytes_on_disk(reader),
                jobs=counts(reader)["jobs"],
                reaches_back_to=_timestamp(oldest),
                minutes_kept=MINUTES_KEPT // DAY,
                hours_kept=HOURS_KEPT // DAY,
                daily_limit=sources.daily_limit,
                events_today=None if shown is None else events_of_day(reader, shown.number, now.date().isoformat()),
                alerts=_alerts(reader, principal),
                webhooks=_webhooks(reader) if principal.connections is None else [],
                sessions=_sessions(sources.access.sessions.all(), principal),
            )
        return render(request, "settings.html", Layout("settings", "Settings", now, scope), view)

    return router


def _alerts(reader: Connection, principal: Principal) -> list[AlertRow]:
    """Return the rules of the connections that the reader may use."""
    return [
        AlertRow(alert.rule, alert.condition, alert.phase, alert.text, timestamp_of(alert.evaluated_at))
        for alert in all_alerts(reader)
        if principal.connections is None or alert.connection in principal.connections
    ]


def _webhooks(reader: Connection) -> list[WebhookRow]:
    return [
        WebhookRow(
            delivery.id,
            delivery.subject,
            origin_of(delivery.url),
            delivery.state,
            delivery.attempts,
            "" if delivery.last is None else str(delivery.last.status or delivery.last.error),
            timestamp_of(delivery.created_at),
            None if delivery.ended_at is not None else timestamp_of(delivery.due_at),
        )
        for delivery in latest_deliveries(reader, _WEBHOOKS)
    ]


def _sessions(records: Sequence[Session], principal: Principal) -> list[SessionRow]:
    """Return the browsers that are signed in: an operator of all connections sees all, others their own."""
    rows = [
        SessionRow(
            record.id,
            record.role.value,
            timestamp_of(to_moment(record.created_at)),
            _timestamp(record.last_used_at),
            timestamp_of(to_moment(record.expires_at)),
            principal.who == f"session {record.id}",
        )
        for record in records
    ]
    return [row for row in rows if row.is_own or may_manage(principal)]


def _timestamp(time: datetime | None) -> str | None:
    return None if time is None else timestamp_of(to_moment(time))
