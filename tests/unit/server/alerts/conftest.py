"""A store with a clock that a test sets, and rules over it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from sluice_agent.server.alerts.evaluation import Evaluation
from sluice_agent.server.alerts.rules import Measure, Rule, Webhook
from sluice_agent.server.queries.alerts import Alert, all_alerts
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.store import IngestBatch, Store
from sluice_agent.server.store.webhook_tables import webhook_delivery
from tests.unit.server.events import CONNECTION, Clock

WEBHOOK = Webhook("ops", "https://hooks.example.com/secret-path", "A_SECRET")


def rule(measure: Measure, name: str = "a rule", connection: str = CONNECTION, **fields: Any) -> Rule:
    return Rule(name, connection, measure, WEBHOOK, **{"resolves_after": 0, **fields})


class Watch:
    """A store, its clock, and evaluations of rules over it."""

    def __init__(self, database: Path | str) -> None:
        self.clock = Clock()
        self.store = Store(database, now=self.clock)

    def add(self, *events: Any) -> None:
        """Ingest events."""
        self.store.submit(IngestBatch(events, "2026-02-27")).result(10)

    def evaluate(self, *rules: Rule, seconds: float | None = None) -> list[str]:
        """Evaluate rules, as a new process does, and return the types of what is to be sent for it."""
        if seconds is not None:
            self.clock.seconds = seconds
        before = len(self.bodies())
        Evaluation(self.store, rules, PastSums()).run()
        return [body["type"] for body in self.bodies()[before:]]

    def bodies(self) -> list[dict[str, Any]]:
        """Return all that was decided to be sent, in order."""
        with self.store.reading() as reader:
            rows = reader.scalars(
                select(webhook_delivery.c.body).order_by(webhook_delivery.c.created_at, webhook_delivery.c.subject)
            )
            return [json.loads(body) for body in rows]

    def alerts(self) -> dict[str, Alert]:
        """Return all alerts by name."""
        with self.store.reading() as reader:
            return {alert.rule: alert for alert in all_alerts(reader)}


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    watch = Watch(tmp_path / "s.db")
    yield watch
    watch.store.close()
