"""The shop's front: a producer, which publishes jobs and is not a worker. ``python -m examples.demo.storefront``

It publishes jobs with every kind of outcome. For every job it prints one line of JSON: the job's ``id``, its ``task``
and the state in which it must ``end``.
"""

import json
import random
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Signature
from celery.result import AsyncResult

from examples.celery_app import emails, images, orders, reports
from examples.demo.celery import app

TIMEOUT = 30.0
"""Seconds to wait for a worker to answer, or for a job to start."""

Visit = Callable[[], Any]


class NoWorkerError(Exception):
    """No worker answers, or none makes progress."""


def main() -> None:
    """Wait for a worker, then publish the jobs of all customers and departments."""
    _wait_for("a worker that answers", lambda: app.control.ping(timeout=1, limit=1))
    catalogue = publish("cancelled", images.build_catalogue.s(600))
    visits = [*customers(), *back_office(), *studio()]
    random.shuffle(visits)
    for visit in visits:
        visit()
        time.sleep(random.uniform(0, 0.08))  # customers arrive at random
    _wait_for("the catalogue's progress", lambda: catalogue.state == "PROGRESS")
    catalogue.revoke(terminate=True)


def customers() -> list[Visit]:
    """Return the customers' orders: most pay, some can't, and some pay at the last moment."""
    carts = [("TEAPOT", "test_visa")] * 17
    carts += [("TEAPOT", "test_slow_gateway")] * 3 + [("TEAPOT", "test_gateway_down")]
    carts += [("TEAPOT", "test_declined")] * 2 + [("UMBRELLA-RED", "test_visa")] * 2
    return [
        *(partial(publish, "completed", orders.place.s(_number(), sku, card)) for sku, card in carts),
        *(partial(publish, "completed", orders.cancel_unpaid.s(_number()), countdown=1.5) for _ in range(3)),
        *(_pay_in_time for _ in range(3)),
    ]


def back_office() -> list[Visit]:
    """Return the staff's jobs: invoices requested twice, parcels, a sale, partners, reports."""
    deliver, announce = orders.deliver_webhook.s, emails.send_flash_sale.s
    return [
        *(_invoice_twice for _ in range(3)),
        *(partial(publish, "completed", emails.send_shipping_notice.s(_number(), n % 4 == 0)) for n in range(12)),
        *(partial(publish, "completed", announce(f"customer-{n}"), expires=600) for n in range(4)),
        *(partial(publish, "cancelled", announce(f"late-{n}"), countdown=1, expires=0.5) for n in range(3)),
        *(partial(publish, "completed", deliver(_number(), signed=True)) for _ in range(4)),
        *(partial(publish, "completed", deliver(_number(), signed=True, partner_is_busy=True)) for _ in range(2)),
        *(partial(publish, "failed", deliver(_number(), signed=False)) for _ in range(2)),
        *(partial(publish, "failed", app.signature("loyalty.award_points")) for _ in range(2)),
        partial(publish, "completed", reports.nightly.s()),
        partial(publish, "completed", orders.release_stale_carts.s()),
    ]


def studio() -> list[Visit]:
    """Return the jobs of photographers and film makers, some of them too large."""
    return [
        *(partial(publish, "completed", images.resize.s(f"photo-{n}")) for n in range(16)),
        *(partial(publish, "completed", images.decode_raw.s(f"raw-{n}", 24)) for n in range(4)),
        *(partial(publish, "failed", images.decode_raw.s(f"panorama-{n}", 400)) for n in range(2)),
        *(partial(publish, "completed", images.render_turntable.s("teapot", 36)) for _ in range(2)),
        *(partial(publish, "completed", images.render_film.s("teapot", 50)) for _ in range(2)),
        partial(publish, "failed", images.render_turntable.s("teapot", 3_600)),
        partial(publish, "failed", images.render_film.s("teapot", 9_000)),
        partial(publish, "completed", images.build_catalogue.s(6)),
    ]


def publish(end: str, job: Signature, **options: Any) -> AsyncResult:
    """Publish a job that must end in the state ``end``, and print both."""
    published = job.apply_async(**options)
    sys.stdout.write(json.dumps({"id": published.id, "task": job.task, "end": end}) + "\n")
    sys.stdout.flush()
    return published


def _pay_in_time() -> None:
    publish("cancelled", orders.cancel_unpaid.s(_number()), countdown=2).revoke()


def _invoice_twice() -> None:
    invoice = orders.issue_invoice.s(_number())
    for _ in range(2):
        publish("completed", invoice.clone())


def _number() -> str:
    return uuid.uuid4().hex[:8]


def _wait_for(description: str, condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise NoWorkerError(f"waited {TIMEOUT:.0f} s for {description}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
