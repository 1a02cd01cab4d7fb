"""A cold shutdown that does not finish."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.outcomes.running_job import BEGUN, RunningJob
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.worker import WorkerProcess


@pytest.mark.parametrize("task", ["hold", "hold_late"])
def test_a_pool_that_never_stops(
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    endpoint: Endpoint,
    tmp_path: Path,
    task: str,
) -> None:
    """Celery hangs until the user kills it: the job's outcome must be reported before, or it would be lost."""
    worker = start_worker(concurrency=1, env={"POOL_HANGS": "1"})
    job = RunningJob(producer(), tmp_path, endpoint, task)
    worker.kill(signal.SIGQUIT)
    end = "cancelled" if task == "hold" else "queued"
    job.wait_for_walk(f"{BEGUN} {end}", "it is active for ever", worker.tail)
    assert worker.running
