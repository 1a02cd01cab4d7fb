"""The app of the integration tests, with the fault patches applied first."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from billiard.process import current_process
from celery.signals import task_failure

from tests.faults import fault_patches

fault_patches.apply()

from sluice_agent import progress  # noqa: E402
from tests.integration.tasks import app, noop, shared_task  # noqa: E402 - the agent is installed there

__all__ = ["app", "noop"]


@shared_task
def fan_out(method: str, count: int) -> list[str]:
    """Publish `count` tasks, each from a new `multiprocessing` process; return their ids."""
    import multiprocessing

    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # a daemon can't have children

    pool = multiprocessing.get_context(method).Pool(2, maxtasksperchild=1)
    ids = pool.map(publish_task, range(count), chunksize=1)
    pool.close()  # not `with`: that ends idle processes by SIGTERM, for which a fork of the worker has Celery's handler
    pool.join()
    return ids


@shared_task(bind=True, max_retries=1)
def set_clock(self: Any, file: str, seconds: float, *, retry: bool = False) -> None:
    """Set the worker's clock wrong by so many seconds while this runs; then retry, if requested."""
    if not self.request.retries:
        progress(0.25)
        Path(file).write_text(str(seconds))
        progress(0.5)
        if retry:
            raise self.retry(countdown=0)


@shared_task
def fail_and_die() -> None:
    """Raise an exception; once that is reported, the process is killed."""
    raise ValueError("failed, and then its process was killed")


@task_failure.connect(sender=fail_and_die)
def _die(**_: Any) -> None:
    if current_process().name != "MainProcess":
        os.kill(os.getpid(), signal.SIGKILL)


def publish_task(_: int) -> str:
    """Publish a task in a process that `fan_out` started."""
    return noop.delay().id
