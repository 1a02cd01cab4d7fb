"""A server of operators, with all that a page can show: actions, alerts, webhooks, limits and keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.setup import AccessOptions
from sluice_agent.server.access.tokens import new_key
from sluice_agent.server.actions.assembly import ActionOptions
from sluice_agent.server.actions.brokers import Brokers
from sluice_agent.server.alerts.evaluation import Evaluation
from sluice_agent.server.alerts.rules import Depth, FailureShare, Rule, Silence, Webhook
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.record.ids import job_id
from sluice_agent.server.store.retention import Keep
from sluice_agent.server.webhooks.schedule import Outcome
from tests.support.chromium import Session
from tests.support.jobs_shop import fill_jobs
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.support.shop import CONNECTION, HOSTILE_TEXT, MAIL, Shop, job_uuid
from tests.support.webhooks import fail_alerts
from tests.unit.server.actions.conftest import WHOLE, RecordedBroker

_WEBHOOK = Webhook("ops", "https://hooks.example.com/path", "A_SECRET")
FIRING = "the catalogue is full"
"""The name of the rule that fires."""

RULES = (
    Rule(FIRING, CONNECTION, Depth("catalogue", 1), _WEBHOOK),
    Rule(HOSTILE_TEXT[:100], CONNECTION, FailureShare(MAIL, 0.01, at_least=1), _WEBHOOK),
    Rule("a quiet one", CONNECTION, Depth("mail", 1_000_000), _WEBHOOK),
    Rule("of a worker that never reported", CONNECTION, Silence("celery@never", 60), _WEBHOOK),
    Rule("of a connection that is not there", "other", Silence("celery@web-1", 60), _WEBHOOK),
)


class Desk:
    """A running server with a broker that keeps what is sent, and a client that may send events."""

    def __init__(self, server: LocalSluice, broker: RecordedBroker) -> None:
        self.server = server
        self.broker = broker
        assert server.access.new_key is not None
        self.agent = server.client({"Authorization": f"Bearer {server.access.new_key.secret}"})

    def send(self, *events: dict[str, Any]) -> None:
        """Send events, and return when they are committed."""
        answer = self.agent.post("/ingest", json={"events": events}).json()
        assert answer["accepted"] == len(events), answer

    def add(self, *keys: str, state: str = "failed", **fields: Any) -> list[str]:
        """Send the events of jobs, and return the addresses of their pages."""
        shop = Shop(datetime.now(timezone.utc))
        whole = {**WHOLE, "args": ["a@example.com"], **fields.pop("extensions", {})}
        self.send(*(event for key in keys for event in shop.job(key, state, extensions=whole, **fields)))
        return [f"/jobs/{job_id(CONNECTION, job_uuid(key))}" for key in keys]

    def fill_jobs(self) -> None:
        """Define the jobs of the shop, with runs in each state."""
        secret = new_key()
        connection, _ = self.server.access.accounts.open_connection(CONNECTION)
        self.server.access.accounts.create_key(connection, Role.OPERATOR, secret)
        client = self.server.client({"Authorization": f"Bearer {secret}"}, "/v1")
        fill_jobs(client, Path(self.server.database), connection.name or connection.id)

    def sign_in(self, session: Session, role: Role = Role.OPERATOR) -> Page:
        """Sign a profile of the browser in, and return its page."""
        page = session.open(f"/login?token={self.server.access.sessions.create_token(role)}")
        page.wait_for_url(f"{self.server.url}/")
        return page

    def evaluate_alerts(self) -> None:
        """Evaluate the rules, and let the first attempt to deliver each webhook fail."""
        store = self.server.app.state.store
        Evaluation(store, RULES, PastSums()).run()
        fail_alerts(store, Outcome(None, None, "ConnectError: the name hooks.example.com is not known"), 3_600_000_000)


@contextmanager
def open_desk(directory: Path) -> Iterator[Desk]:
    """Run a server until the end of the block."""
    broker = RecordedBroker()
    with local_sluice(
        directory / "sluice.db",
        options=AccessOptions(connection=CONNECTION),
        has_jobs=True,
        actions=ActionOptions(Brokers(default=broker), ("shop.*",)),
        keep=Keep(timedelta(days=7), 2_000_000_000),
        daily_limit=20_000,
    ) as server:
        desk = Desk(server, broker)
        shop = Shop(datetime.now(timezone.utc))
        desk.send(*shop.every_state(), *shop.canvas(), *shop.fleet(), *shop.hostile())
        desk.evaluate_alerts()
        desk.fill_jobs()
        yield desk
