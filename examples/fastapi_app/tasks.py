"""The Celery application, and its task. For sluice-agent it needs only the import and the call of `install`."""

import os

from celery import Celery

import sluice_agent

sluice_agent.install()

celery = Celery("shop", broker=os.environ.get("BROKER_URL", "redis://localhost"))
celery.conf.task_default_queue = "shop"


@celery.task
def charge(order: str) -> str:
    """Charge an order."""
    return f"charged for {order}"
