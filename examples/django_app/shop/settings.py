"""The settings of the project: of Django, of Celery (``CELERY_…``) and of sluice-agent (``SLUICE_…``)."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("SECRET_KEY", "only-for-this-example")
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_beat", "django_celery_results", "shop"]
ROOT_URLCONF = "shop.urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", BASE_DIR / "shop.sqlite3"),
        "ATOMIC_REQUESTS": True,
        "OPTIONS": {"timeout": 30},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

CELERY_BROKER_URL = os.environ.get("BROKER_URL", "redis://localhost")
CELERY_TASK_DEFAULT_QUEUE = "shop"
CELERY_RESULT_BACKEND = "django-db"  # django-celery-results
CELERY_RESULT_EXTENDED = True
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"

# The key and the connection come from the environment, where they differ by host.
SLUICE_IGNORE_TASKS = ["shop.tasks.clear_sessions"]
SLUICE_CAPTURE_ARGS = True
