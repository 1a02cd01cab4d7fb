"""A small shop on Celery: orders, e-mails, images, webhooks and reports, monitored by sluice-agent.

``celery -A examples.celery_app worker`` runs it, with the broker and the result backend of ``BROKER_URL`` and
``RESULT_BACKEND``, by default a Redis on this machine. ``make demo`` runs it with neither.
"""
