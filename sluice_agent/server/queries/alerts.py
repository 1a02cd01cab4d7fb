"""Alerts as pages show them."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, select

from sluice_agent.server.store.alert_tables import alert

_FIRING = "firing"


class Alert(NamedTuple):
    """A rule and its state. `condition` and `text`, what was measured, are in words; times are moments."""

    rule: str
    connection: int | None
    condition: str
    phase: str
    since: int | None
    evaluated_at: int
    text: str


_COLUMNS = [alert.c[field] for field in Alert._fields]


def firing_alerts(reader: Connection, connection: int) -> list[Alert]:
    """Return the alerts of a connection that fire, the newest first."""
    is_firing = (alert.c.connection == connection) & (alert.c.phase == _FIRING)
    return [Alert(*row) for row in reader.execute(select(*_COLUMNS).where(is_firing).order_by(alert.c.since.desc()))]


def all_alerts(reader: Connection) -> list[Alert]:
    """Return all alerts, by name."""
    return [Alert(*row) for row in reader.execute(select(*_COLUMNS).order_by(alert.c.rule))]
