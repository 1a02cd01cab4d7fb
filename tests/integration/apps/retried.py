"""An app whose tasks fail, and write down how they were called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from celery import Task

from tests.integration.tasks import app, shared_task

__all__ = ["app"]


class CalledError(Exception):
    """What each of these tasks raises."""


def _write(task: Task, path: str, args: Any, kwargs: Any) -> None:
    request = task.request
    call = {
        "id": request.id,
        "args": args,
        "kwargs": kwargs,
        "retries": request.retries,
        "timeLimit": list(request.timelimit or [None, None]),
        "headers": (request.headers or {}).get("tenant"),
        "priority": (request.delivery_info or {}).get("priority"),
        "queue": (request.delivery_info or {}).get("routing_key"),
        "ignoreResult": bool(request.ignore_result),
    }
    with Path(path).open("a") as file:
        file.write(f"{json.dumps(call)}\n")


@shared_task(bind=True)
def fail(self: Task, path: str, *args: Any, **kwargs: Any) -> None:
    """Append the call to a file as JSON, and fail."""
    _write(self, path, args, kwargs)
    raise CalledError


@shared_task(bind=True, ignore_result=True)
def fail_without_result(self: Task, path: str, *args: Any, **kwargs: Any) -> None:
    """Do the same; nothing is in the result backend."""
    _write(self, path, args, kwargs)
    raise CalledError


@shared_task(bind=True)
def succeed(self: Task, path: str, *args: Any, **kwargs: Any) -> None:
    """Append the call to a file as JSON."""
    _write(self, path, args, kwargs)
