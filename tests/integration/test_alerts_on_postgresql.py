"""Alerts and webhooks of two servers on one PostgreSQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from datetime import datetime, timezone

import pytest

from sluice_agent.server.alerts.evaluation import Evaluation
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.queries.webhook_deliveries import latest_deliveries
from sluice_agent.server.webhooks.ledger import KEPT
from sluice_agent.server.webhooks.schedule import Outcome
from tests.support.alert_rules import alert_options
from tests.support.local_sluice import local_sluice
from tests.support.misbehaviour import lost_answer
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver
from tests.unit.server.alerts.conftest import Watch
from tests.unit.server.events import ingest, snapshot
from tests.unit.server.webhooks.conftest import Outbox

DELIVERIES = 120


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()
    yield receiver
    receiver.down()


def test_two_servers_send_an_alert_once(new_postgresql: str, receiver: WebhookReceiver) -> None:
    """Behind a balancer, each server would page whoever is on call."""
    receiver.script(lost_answer)
    options = alert_options(receiver, interval=0.02)
    with ExitStack() as stack:
        first = stack.enter_context(local_sluice(new_postgresql, alerts=options))
        stack.enter_context(local_sluice(new_postgresql, alerts=options))
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        ingest(first.client(), {**snapshot("mail", 0, 11), "timestamp": now})
        wait_until(lambda: [request.status for request in receiver.requests] == [None, 200], 30, "it is not sent")
        ingest(first.client(), {**snapshot("mail", 0, 12), "timestamp": now})
    assert len(set(receiver.ids())) == 1
    assert [body["type"] for body in receiver.bodies()] == ["alert.firing"] * 2


def test_evaluations_at_once_decide_once(new_postgresql: str, receiver: WebhookReceiver) -> None:
    """While a lease changes its holder, two servers may evaluate the same rules."""
    rules = alert_options(receiver).rules
    watches = [Watch(new_postgresql), Watch(new_postgresql)]
    with closing(watches[0].store), closing(watches[1].store):
        watches[0].add(snapshot("mail", 0, 11))
        late = Evaluation(watches[1].store, rules, PastSums())
        watches[1].store.writing = _after(lambda: watches[0].evaluate(*rules), watches[1].store.writing)  # type: ignore[method-assign]
        assert late.run() == 0
        assert [body["type"] for body in watches[0].bodies()] == ["alert.firing"]


def _after(first: object, then: object) -> object:
    def both() -> object:
        first()  # type: ignore[operator]
        return then()  # type: ignore[operator]

    return both


def test_each_delivery_is_sent_by_one_process(new_postgresql: str) -> None:
    """Two senders would post each webhook twice; or both would leave some to the other."""
    outboxes = [Outbox(new_postgresql) for _ in range(2)]
    sent: Counter[str] = Counter()

    def post(delivery: object, headers: Mapping[str, str], body: bytes) -> Outcome:
        sent[headers["webhook-id"]] += 1
        return Outcome(200, None, "")

    with closing(outboxes[0].store), closing(outboxes[1].store):
        ids = [outboxes[0].add(f"http://127.0.0.1:1/{number}") for number in range(DELIVERIES)]
        senders = [outbox.sender(post, is_alone=False) for outbox in outboxes]
        for sender in senders:
            sender.start()
        try:
            wait_until(lambda: all(outboxes[0].row(one).state == "delivered" for one in ids), 60, "some are not sent")
        finally:
            for sender in senders:
                sender.close()
        outboxes[0].clock.seconds += KEPT / 1_000_000 + 1
        outboxes[0].ledger.delete_old()
        with outboxes[0].store.reading() as reader:
            assert latest_deliveries(reader, 1) == []
    assert sent == Counter(ids)
