"""A Celery application with the vendor's own SDK, as its documentation sets it up. It runs in the SDK's venv."""

from __future__ import annotations

import os

import sluice
from celery import Celery

from tests.support import atomic_filesystem

atomic_filesystem.install()

_FOLDER = os.environ["BROKER_FOLDER"]

app = Celery("vendor_app", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": f"{_FOLDER}/messages",
    "data_folder_out": f"{_FOLDER}/messages",
    "processed_folder": f"{_FOLDER}/processed",
    "control_folder": f"{_FOLDER}/control",
    "polling_interval": 0.05,
}
sluice.init()


@app.task
def add(first: int, second: int) -> int:
    """Return the sum."""
    return first + second


@app.task
def fail() -> None:
    """Raise an exception."""
    raise LookupError("no such order")


@app.task(bind=True, max_retries=1)
def retry(self) -> None:  # type: ignore[no-untyped-def] # Celery's task
    """Fail once, and succeed at the second attempt."""
    if not self.request.retries:
        raise self.retry(countdown=0.1)
