"""A small shop on Celery: orders, e-mails, images, webhooks and reports, watched by sluice-agent.

``celery -A examples.celery_app worker`` runs it, ``python -m examples.celery_app.demo`` shows it.
"""
