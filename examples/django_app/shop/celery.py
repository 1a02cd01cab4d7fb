"""The Celery application of the project. For sluice-agent it needs the import and the call of `install`."""

import os

from celery import Celery

import sluice_agent.django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
sluice_agent.django.install()

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
