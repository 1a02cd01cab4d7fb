"""From the order to the payment. The cards are test cards of payment providers."""

import random
import time

from celery import Task, chain
from celery.exceptions import Ignore, Reject

from examples.celery_app import emails, once
from examples.celery_app.celery import app


class CardDeclinedError(Exception):
    """The bank declined the card. A retry does not help."""


class GatewayTimeoutError(Exception):
    """The payment gateway did not answer in time. A retry may help."""


class OutOfStockError(Exception):
    """The warehouse has less than was ordered."""


@app.task(name="orders.place")
def place(order: str, sku: str, card: str) -> None:
    """Accept an order: its steps run in sequence, and the first that fails ends it."""
    steps = chain(
        check_inventory.si(sku),
        charge_card.si(order, card),
        issue_invoice.si(order),
        emails.send_receipt.si(order),
    )
    steps.apply_async()


@app.task(name="orders.check_inventory")
def check_inventory(sku: str) -> int:
    """Return the number in stock."""
    time.sleep(random.uniform(0.005, 0.02))
    if sku == "UMBRELLA-RED":
        raise OutOfStockError(f"{sku}: 1 ordered, 0 in stock, next delivery in 6 days")
    return random.randint(1, 40)


@app.task(
    name="orders.charge_card",
    bind=True,
    autoretry_for=(GatewayTimeoutError,),
    retry_backoff=1,
    retry_backoff_max=2,
    retry_jitter=False,
    max_retries=2,
)
def charge_card(self: Task, order: str, card: str) -> str:
    """Charge the card, again after 1 and 2 s if the gateway does not answer."""
    time.sleep(random.uniform(0.03, 0.12))
    if card == "test_declined":
        raise CardDeclinedError("card ending in 0002 declined: insufficient funds")
    if card == "test_gateway_down" or (card == "test_slow_gateway" and self.request.retries == 0):
        raise GatewayTimeoutError("no answer from the payment gateway within 100 ms")
    return f"charge-{order}"


@app.task(name="orders.issue_invoice")
def issue_invoice(order: str) -> str:
    """Issue the invoice of an order, once: a second request for the same order is ignored."""
    if not once.first_time("invoices", order):
        raise Ignore
    time.sleep(random.uniform(0.01, 0.03))
    return f"invoice-{order}"


@app.task(name="orders.cancel_unpaid")
def cancel_unpaid(order: str) -> None:
    """Cancel an unpaid order. Published with a countdown, and revoked when the payment arrives."""
    time.sleep(0.01)


@app.task(name="orders.release_stale_carts")
def release_stale_carts() -> int:
    """Return the goods in forgotten carts to the stock."""
    time.sleep(0.02)
    return random.randint(0, 5)


@app.task(name="orders.deliver_webhook", acks_late=True)
def deliver_webhook(delivery: str, signed: bool, partner_is_busy: bool = False) -> None:
    """Notify a partner of an order: requeued while the partner is busy, rejected without a signature."""
    if not signed:
        raise Reject("the payload has no signature", requeue=False)
    if partner_is_busy and once.first_time("webhooks", delivery):
        raise Reject("the partner is busy", requeue=True)
    time.sleep(random.uniform(0.01, 0.04))
