"""The shop's Celery application. For sluice-agent it needs only the import and the call of `install`."""

import os

from celery import Celery
from kombu import Exchange, Queue

import sluice_agent

sluice_agent.install()

app = Celery(
    "shop",
    broker=os.environ.get("BROKER_URL", "redis://localhost"),
    backend=os.environ.get("RESULT_BACKEND", "redis://localhost"),
    include=[f"examples.celery_app.{module}" for module in ("emails", "images", "orders", "reports")],
)

shop = Exchange("shop")
app.conf.update(
    result_expires=3600,
    task_queues=[Queue(name, shop, routing_key=name) for name in ("orders", "emails", "images", "reports")],
    task_default_queue="orders",
    task_default_exchange="shop",
    task_default_routing_key="orders",
    task_routes={
        "emails.*": {"queue": "emails"},
        "images.*": {"queue": "images"},
        "reports.*": {"queue": "reports"},
    },
    task_track_started=True,
    broker_connection_retry_on_startup=True,
    timezone="UTC",
    beat_schedule={  # the nightly report is in examples/celery_app/schedules.py
        "release-stale-carts": {"task": "orders.release_stale_carts", "schedule": 900.0},
    },
)
