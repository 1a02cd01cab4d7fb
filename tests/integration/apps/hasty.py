"""An app that publishes in each pool process at its start, in a hook that it connects before the agent's."""

from __future__ import annotations

from typing import Any

from celery.signals import worker_process_init

import sluice_agent
from tests.integration import tasks
from tests.integration.tasks import app

__all__ = ["app"]


@worker_process_init.connect
def warm(**_: Any) -> None:
    """Publish a task."""
    tasks.noop.delay()


sluice_agent.install()
