"""A web application for gunicorn: it publishes a task when it is loaded, and one for each request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.faults.app import noop

noop.delay()  # the process that loads the application ships before it forks


def application(_: dict[str, Any], start: Callable[..., object]) -> list[bytes]:
    """Answer with the task's id."""
    start("200 OK", [("Content-Type", "text/plain")])
    return [noop.delay().id.encode()]
