"""A third-party pool: it overrides the method that receives tasks."""

from __future__ import annotations

from typing import Any

from celery.concurrency.thread import TaskPool


class OwnPool(TaskPool):
    """A pool whose `apply_async` does not call that of Celery's base class."""

    def apply_async(self, target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Pass the task to a thread."""
        return self.on_apply(target, args or (), kwargs or {}, **options)
