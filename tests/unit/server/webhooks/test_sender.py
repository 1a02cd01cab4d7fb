"""Deliveries to an endpoint that fails on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from sluice_agent.server.store import UnavailableError
from sluice_agent.server.store.webhook_tables import webhook_attempt, webhook_delivery
from sluice_agent.server.webhooks.ledger import CLAIM, KEPT, Delivery, Due
from sluice_agent.server.webhooks.schedule import WAITS
from sluice_agent.server.webhooks.sender import Sender, UnsignedError
from tests.support.misbehaviour import hangs, lost_answer, reset_before, status, too_many
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver, is_signed
from tests.unit.server.webhooks.conftest import Outbox

Start = Callable[..., Sender]


def test_a_delivery_is_signed_and_sent_once(outbox: Outbox, receiver: WebhookReceiver, start: Start) -> None:
    """A receiver could not know that an alert is from this server, or would page twice."""
    delivery = outbox.add(receiver.hook)
    start()
    wait_until(lambda: outbox.row(delivery).state == "delivered", 10, "it is not sent")
    [request] = receiver.requests
    assert is_signed(request)
    assert request.headers["webhook-timestamp"] == str(outbox.store.moment // 1_000_000)
    assert (request.headers["content-type"], request.raw) == ("application/json", '{"type": "ä"}'.encode())
    row = outbox.row(delivery)
    assert (row.attempts, row.ended_at, outbox.results(delivery)) == (1, outbox.store.moment, [200])


def test_a_failing_endpoint_gets_it_later_with_the_same_id(
    outbox: Outbox, receiver: WebhookReceiver, start: Start
) -> None:
    """An alert would be lost while its receiver is restarted, or be taken for another one."""
    receiver.script(status(500), reset_before, lost_answer, too_many("300"), status(302, {"Location": "/x"}))
    delivery = outbox.add(receiver.hook)
    start()
    for attempt in range(1, 6):
        wait_until(lambda attempt=attempt: len(outbox.results(delivery)) == attempt, 10, "no attempt", receiver.ids)
        wait = (outbox.row(delivery).due_at - outbox.store.moment) / 1_000_000
        assert wait == max(WAITS[attempt - 1], 300 if attempt == 4 else 0)
        outbox.clock.seconds += wait
    wait_until(lambda: outbox.row(delivery).state == "delivered", 10, "it is not sent")
    results = outbox.results(delivery)
    assert (results[0], results[3:]) == (500, [429, 302, 200])
    assert all("Error" in str(result) for result in results[1:3])
    assert set(receiver.ids()) == {delivery}
    assert all(map(is_signed, receiver.requests))


def test_an_endpoint_that_is_gone_is_left_alone(outbox: Outbox, receiver: WebhookReceiver, start: Start) -> None:
    """A receiver that was switched off would be asked for a day."""
    receiver.script(status(410))
    delivery = outbox.add(receiver.hook)
    start()
    wait_until(lambda: outbox.row(delivery).state == "gone", 10, "it goes on")
    assert outbox.row(delivery).ended_at is not None


def test_the_last_attempt_ends_it(outbox: Outbox, receiver: WebhookReceiver, start: Start) -> None:
    """Deliveries to a wrong address would pile up for ever."""
    receiver.standing(status(404, body="no\x00such hook"))
    delivery = outbox.add(receiver.hook)
    start()
    for attempt in range(1, len(WAITS) + 2):
        wait_until(lambda attempt=attempt: len(outbox.results(delivery)) == attempt, 10, "no attempt")
        outbox.clock.seconds = (outbox.row(delivery).due_at - outbox.store.moment) / 1_000_000 + outbox.clock.seconds
    row = outbox.row(delivery)
    assert (row.state, row.attempts) == ("failed", len(WAITS) + 1)
    assert row.last is not None
    assert row.last.error == "nosuch hook"


def test_an_endpoint_that_hangs_holds_up_no_other(outbox: Outbox, receiver: WebhookReceiver, start: Start) -> None:
    """One dead chat server would hold up the page to whoever is on call."""
    receiver.script(hangs())
    hanging = [outbox.add(receiver.hook, f"rule {number}") for number in range(6)]
    start()
    wait_until(lambda: len(receiver.requests) == 1, 10, "it does not hang")
    other = outbox.add(f"{receiver.hook}/other")
    wait_until(lambda: outbox.row(other).state == "delivered", 10, "it is held up")
    assert outbox.row(hanging[0]).state == "pending"
    assert len(receiver.requests) == 2
    receiver.release()
    wait_until(lambda: {outbox.row(one).state for one in hanging[1:]} == {"delivered"}, 10, "the others do not go on")


def test_what_a_killed_process_was_sending_is_sent_again(
    outbox: Outbox, receiver: WebhookReceiver, start: Start
) -> None:
    """An alert would be lost by a kill between its decision and its delivery."""
    waiting, claimed = outbox.add(receiver.hook), outbox.add(receiver.hook)
    [killed] = outbox.claim(waiting)
    start()
    wait_until(lambda: {outbox.row(one).state for one in (waiting, claimed)} == {"delivered"}, 10, "one is lost")
    assert sorted(receiver.ids()) == sorted([waiting, claimed])
    assert outbox.row(killed.id).attempts == 1, "kills would use up all attempts"


def test_a_claimed_delivery_is_nobody_elses_until_the_claim_ends(outbox: Outbox) -> None:
    """Two processes would send an alert at once; or after a kill none would."""
    delivery = outbox.add("http://127.0.0.1:1/")
    [first] = outbox.claim(delivery)
    assert outbox.ledger.first_due(["alert"]) == []
    assert outbox.claim(delivery) == []
    outbox.clock.seconds = CLAIM / 1_000_000
    [second] = outbox.claim(delivery)
    assert (second.id, second.attempt) == (delivery, 1)
    assert not outbox.settle(first)
    assert outbox.row(delivery).state == "pending"
    assert outbox.settle(second)


def test_a_sender_takes_only_what_it_can_sign(outbox: Outbox, receiver: WebhookReceiver) -> None:
    """A server would fail the deliveries of what it does not do, and no other would get to send them."""
    delivery = outbox.add(receiver.hook)
    assert outbox.ledger.first_due(["run"]) == []
    assert outbox.row(delivery).attempts == 0


def test_a_secret_that_is_missing_is_waited_for(outbox: Outbox, receiver: WebhookReceiver) -> None:
    """An alert would be lost, or go out without a signature, as a variable was forgotten at a restart."""
    is_known = Event()

    def sign(delivery: Delivery, timestamp: int, body: bytes) -> Mapping[str, str]:
        if not is_known.is_set():
            raise UnsignedError("A_SECRET is not set")
        return {"webhook-id": delivery.id}

    delivery = outbox.add(receiver.hook)
    sender = Sender(outbox.ledger, {"alert": sign}, lambda: outbox.store.moment, is_alone=True)
    sender.start()
    try:
        wait_until(lambda: outbox.results(delivery) == ["A_SECRET is not set"], 10, "no attempt")
        is_known.set()
        outbox.clock.seconds = 10
        sender.wake()
        wait_until(lambda: outbox.row(delivery).state == "delivered", 10, "it is not sent")
    finally:
        sender.close()
    assert len(receiver.requests) == 1


def test_a_database_that_is_away_is_waited_for(outbox: Outbox, receiver: WebhookReceiver) -> None:
    """A disk that was full for a minute would end all alerts until the server is restarted."""
    failures: list[Exception] = [UnavailableError("full"), OperationalError("", {}, OSError("away")), KeyError("odd")]
    first_due = outbox.ledger.first_due

    def failing(*arguments: Any) -> list[Due]:
        if failures:
            raise failures.pop(0)
        return first_due(*arguments)

    outbox.ledger.first_due = failing  # type: ignore[method-assign]
    delivery = outbox.add(receiver.hook)
    sender = outbox.sender()
    sender.start()
    try:
        wait_until(lambda: outbox.row(delivery).state == "delivered", 10, "it is not sent")
    finally:
        sender.close()
    assert failures == []


def test_a_private_address_needs_permission(outbox: Outbox, receiver: WebhookReceiver, start: Start) -> None:
    """A URL would reach services inside, and nobody would see why a webhook does not arrive."""
    delivery = outbox.add(receiver.hook, allows_private=False)
    start()
    wait_until(lambda: outbox.results(delivery), 10, "no attempt")
    assert outbox.results(delivery) == ["127.0.0.1 is a private address"]
    assert receiver.requests == []


def test_old_deliveries_are_deleted(outbox: Outbox, receiver: WebhookReceiver) -> None:
    """The table would grow for ever; or what still waits would be lost."""
    sender = outbox.sender()
    old = outbox.add(receiver.hook)
    sender.start()
    wait_until(lambda: outbox.row(old).state == "delivered", 10, "it is not sent")
    sender.close()
    outbox.clock.seconds = KEPT / 1_000_000
    waiting = outbox.add(receiver.hook)
    outbox.ledger.delete_old()
    assert outbox.row(old)
    outbox.clock.seconds += 1
    outbox.ledger.delete_old()
    with outbox.store.reading() as reader:
        assert list(reader.scalars(select(webhook_delivery.c.id))) == [waiting]
        assert list(reader.scalars(select(webhook_attempt.c.delivery))) == []
