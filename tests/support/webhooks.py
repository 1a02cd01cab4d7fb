"""Webhooks that a test lets fail, without an endpoint."""

from __future__ import annotations

from sluice_agent.server.store import Store
from sluice_agent.server.webhooks.ledger import Ended, Ledger
from sluice_agent.server.webhooks.schedule import DeliveryState, Outcome


def fail_alerts(store: Store, outcome: Outcome, delay: int) -> None:
    """Let the first attempt to deliver each alert end with `outcome`, and the next follow in `delay` microseconds."""
    ledger = Ledger(store.reading, store.writing, lambda: store.moment)
    claimed = ledger.turn([], ["alert"], lambda due: due).claimed
    now = store.moment
    ended = [Ended(delivery, outcome, DeliveryState.PENDING, now + delay, now, now) for delivery in claimed]
    ledger.turn(ended, [], lambda _: ())
