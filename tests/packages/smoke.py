"""Run a worker with the agent in a thread, on the packages of this environment alone: what the first user does."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import distributions, version

os.environ |= {
    "SLUICE_CONNECTION_ID": "11111111-1111-4111-8111-111111111111",
    "SLUICE_SHIP": "never",
    "SLUICE_STATE_DIR": tempfile.mkdtemp(),
}

from celery import Celery
from celery.contrib.testing.worker import start_worker

import sluice_agent
from sluice_agent.cli import main

app = Celery("shop", broker="memory://", backend="cache+memory://")


@app.task(name="shop.add")
def add(left: int, right: int) -> int:
    """Add two numbers."""
    sluice_agent.progress(0.5)
    return left + right


sluice_agent.install(before_send=lambda event: event)
with start_worker(app, perform_ping_check=False, shutdown_timeout=30):
    assert add.delay(1, 2).get(timeout=60) == 3
counts = sluice_agent.stats()
assert counts["captured"] >= 3, counts  # queued, active, completed
assert counts["captured"] == counts["pending"], counts
assert not [name for name in sluice_agent.__all__ if not hasattr(sluice_agent, name)]
main(["--version"], standalone_mode=False)
chosen = ("celery", "kombu", "httpx", "pydantic", "tenacity", "click")
print("python", sys.version.split()[0], *(f"{name} {version(name)}" for name in chosen))
print(len(list(distributions())), "distributions")
