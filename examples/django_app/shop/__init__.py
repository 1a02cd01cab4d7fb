"""A shop on Django and Celery: orders that a request stores, and a task charges. See docs/web-frameworks.md."""

from shop.celery import app

__all__ = ["app"]
