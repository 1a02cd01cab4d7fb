"""A pool as somebody else may have made it: it takes tasks by a method of its own."""

from __future__ import annotations

from typing import Any

from celery.concurrency.thread import TaskPool


class OwnPool(TaskPool):
    """Its `apply_async` does not come to that of Celery's base class."""

    def apply_async(self, target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Hand the task to a thread."""
        return self.on_apply(target, args or (), kwargs or {}, **options)
