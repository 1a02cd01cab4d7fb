"""The shop's Celery application. The first two statements after the imports are all that sluice-agent needs.

``BROKER_URL`` and ``RESULT_BACKEND`` choose the broker and where results go. Without them both are folders below
``SHOP_FOLDER`` (or the temporary folder), so that nothing else has to be running.
"""

import os

from celery import Celery
from celery.schedules import crontab
from kombu import Exchange, Queue

import sluice_agent
from examples.celery_app import folder_broker, premises

sluice_agent.install()

app = Celery("shop", include=[f"examples.celery_app.{room}" for room in ("emails", "images", "orders", "reports")])

if broker_url := os.environ.get("BROKER_URL"):
    app.conf.broker_url = broker_url
else:
    app.conf.update(folder_broker.settings(premises.directory("broker")))

shop = Exchange("shop")
app.conf.update(
    result_backend=os.environ.get("RESULT_BACKEND") or f"file://{premises.directory('results')}",
    result_expires=3600,
    result_chord_retry_interval=0.5,
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
    beat_schedule={
        "nightly-sales-report": {"task": "reports.nightly", "schedule": crontab(hour=2, minute=30)},
        "release-stale-carts": {"task": "orders.release_stale_carts", "schedule": 900.0},
    },
)
