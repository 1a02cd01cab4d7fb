"""Alerts on the pages Now and Settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice_agent.server.access.principal import Role
from sluice_agent.server.alerts.evaluation import Evaluation
from sluice_agent.server.alerts.rules import Depth, Rule, Silence, Webhook
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.webhooks.schedule import Outcome
from tests.support.html import Element, parse_html
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.support.webhooks import fail_alerts
from tests.unit.server.events import CONNECTION, Clock, at, ingest, snapshot, worker_event
from tests.unit.server.pages.conftest import HTML

CLOCK = Clock()
WEBHOOK = Webhook("ops", "https://hooks.example.com/secret-path", "A_SECRET")
RULES = [
    Rule("mail <b>full</b>", CONNECTION, Depth("mail", 10), WEBHOOK),
    Rule("quiet", CONNECTION, Depth("mail", 1_000), WEBHOOK),
    Rule("not there", "other", Silence("celery@w", 60), WEBHOOK),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """A server at a minute past ten, in which one alert fires, whose webhook has failed once."""
    CLOCK.seconds = 60
    with local_sluice(tmp_path_factory.mktemp("alerts") / "s.db", now=CLOCK) as server:
        ingest(server.client(), snapshot("mail", 59, 11), worker_event("heartbeat", 59))
        store = server.app.state.store
        Evaluation(store, RULES, PastSums()).run()
        fail_alerts(store, Outcome(500, None, "no"), 5_000_000)
        yield server


def page(server: LocalSluice, path: str, headers: dict[str, str] | None = None) -> Element:
    return parse_html(server.client({**HTML, **(headers or {})}, path="").get(path).text)


def test_alerts_are_first_on_the_page_now(server: LocalSluice) -> None:
    """Who opens the page after a message would have to look for what it is about."""
    main = page(server, "/").one("main")
    assert main.all("h2")[0].text == "Alerts"
    [alert] = main.one("section", aria_labelledby="alerts").all("li")
    assert alert.text == "mail <b>full</b>: 11 jobs are in the queue mail. Fires since 10:01:00."
    assert alert.one("time")["datetime"] == at(60)
    assert "Nothing is wrong" not in main.text
    assert page(server, "/").one("head").one("title").text.startswith("Now · 1 wrong")


def test_rules_and_webhooks_are_on_the_settings(server: LocalSluice) -> None:
    """Nobody could see which rules there are, and whether their messages arrive; or the page would show a secret."""
    main = page(server, "/settings").one("main")
    rows = {row["data-key"]: [cell.text for cell in row.all("td")] for row in main.all("tr") if row.attributes}
    assert rows["mail <b>full</b>"] == [
        "mail <b>full</b>", "firing", "more than 10 jobs are in the queue mail", "11 jobs are in the queue mail",
        "10:01:00",
    ]  # fmt: skip
    assert rows["quiet"][1] == "quiet"
    assert rows["not there"][3] == "there is no connection other"
    [webhook] = [cells for key, cells in rows.items() if key.startswith("msg_")]
    assert webhook == [
        "mail <b>full</b>", "pending", "https://hooks.example.com", "1", "500", "10:01:00", "10:01:05"
    ]  # fmt: skip
    assert "secret-path" not in main.text


def test_a_key_of_another_connection_sees_none(tmp_path: Path) -> None:
    """A team would read the rules of others, and where their messages go."""
    with local_sluice(tmp_path / "s.db", now=CLOCK) as server:
        ingest(server.client(), snapshot("mail", 59, 11))
        Evaluation(server.app.state.store, RULES, PastSums()).run()
        other, _ = server.access.accounts.open_connection("other")
        key = server.access.accounts.create_key(other, Role.VIEWER)
        main = page(server, "/settings", {"Authorization": f"Bearer {key.secret}"}).one("main")
        assert "mail <b>full</b>" not in main.text
        assert "hooks.example.com" not in main.text
