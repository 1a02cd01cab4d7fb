"""A small shop on Celery: orders, e-mails, images, webhooks and reports, monitored by sluice-agent.

``celery -A examples.celery_app worker`` runs it, ``python -m examples.celery_app.demo`` demonstrates it.
"""
