"""E-mails of the shop to its customers."""

import random
import time

from celery import Task

from examples.celery_app.celery import app


class MailboxBusyError(Exception):
    """The other mail server is busy (SMTP 450)."""


@app.task(name="emails.send_receipt")
def send_receipt(order: str) -> None:
    """Send the receipt of a paid order."""
    time.sleep(random.uniform(0.02, 0.06))


@app.task(name="emails.send_shipping_notice", bind=True, max_retries=3)
def send_shipping_notice(self: Task, order: str, mailbox_is_busy: bool = False) -> None:
    """Inform a customer that the parcel is on its way; retry after half a second if the mailbox is busy."""
    time.sleep(random.uniform(0.02, 0.05))
    if mailbox_is_busy and self.request.retries == 0:
        raise self.retry(exc=MailboxBusyError("450 4.2.1 mailbox busy, try again later"), countdown=0.5)


@app.task(name="emails.send_flash_sale")
def send_flash_sale(customer: str) -> None:
    """Announce a sale. Published with ``expires``: after the sale it is of no use."""
    time.sleep(0.02)
