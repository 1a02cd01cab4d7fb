"""A server that is killed between the decision that an alert fires and its delivery."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import httpx
import pytest

from sluice_agent.server.queries.alerts import all_alerts
from sluice_agent.server.queries.webhook_deliveries import latest_deliveries
from sluice_agent.server.store import Store
from tests.faults.conftest import IS_LONG
from tests.support.alert_rules import alert_options
from tests.support.forked_server import ForkedServer
from tests.support.local_sluice import ANY_KEY
from tests.support.misbehaviour import hangs, lost_answer
from tests.support.stream_client import NO_TLS
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver, is_signed
from tests.unit.server.events import snapshot

KILLS = 20 if IS_LONG else 4


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver()
    yield receiver
    receiver.release()
    receiver.down()


def ingest_full_queue(server: ForkedServer) -> None:
    """Ingest that more jobs wait than the rule allows."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    events = {"events": [{**snapshot("mail", 0, 11), "timestamp": now}]}
    httpx.post(f"{server.url}/ingest", json=events, headers=ANY_KEY, verify=NO_TLS, timeout=30).raise_for_status()


def test_an_alert_survives_kills_before_it_is_delivered(tmp_path: Path, receiver: WebhookReceiver) -> None:
    """The page to whoever is on call would be lost with the server that is about to send it, or be sent as another."""
    database = tmp_path / "s.db"
    options = alert_options(receiver, interval=0.05)
    receiver.standing(hangs())
    server = ForkedServer(database, tmp_path / "first", alerts=options)
    ingest_full_queue(server)
    for kill in range(1, KILLS + 1):
        wait_until(lambda kill=kill: len(receiver.requests) >= kill, 20, "it is not sent", server.log)
        time.sleep(random.uniform(0, 0.02))
        server.kill()
        server = ForkedServer(database, tmp_path / str(kill), alerts=options)
    wait_until(lambda: len(receiver.requests) >= KILLS + 1, 20, "it is not sent", server.log)
    server.kill()
    receiver.standing()
    receiver.release()
    server = ForkedServer(database, tmp_path / "last", alerts=options)
    wait_until(lambda: receiver.requests[-1].status == 200, 20, "it is not delivered", server.log)
    server.kill()
    with closing(Store(database, now=lambda: datetime.now(timezone.utc))) as store, store.reading() as reader:
        [delivery] = latest_deliveries(reader, 10)
        [alert] = all_alerts(reader)
    assert (alert.phase, delivery.subject) == ("firing", "mail is full")
    assert set(receiver.ids()) == {delivery.id}
    assert all(map(is_signed, receiver.requests))
    assert {body["type"] for body in receiver.bodies()} == {"alert.firing"}


def test_an_answer_that_a_kill_loses_is_asked_for_again(tmp_path: Path, receiver: WebhookReceiver) -> None:
    """A delivery whose answer did not arrive would count as delivered, or its copy could not be recognised."""
    receiver.script(lost_answer)
    server = ForkedServer(tmp_path / "s.db", alerts=alert_options(receiver, interval=0.05))
    try:
        ingest_full_queue(server)
        wait_until(lambda: [request.status for request in receiver.requests][1:] == [200], 20, "no second", server.log)
        first, second = receiver.ids()
        assert first == second
    finally:
        server.kill()
