"""The app of the integration tests, after the prelude."""

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
    """Publish `count` tasks, each from a `multiprocessing` process of its own, and their ids."""
    import multiprocessing

    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # as one has to

    pool = multiprocessing.get_context(method).Pool(2, maxtasksperchild=1)
    ids = pool.map(publish_one, range(count), chunksize=1)
    pool.close()  # not `with`: that ends idle processes by SIGTERM, for which a fork of the worker has Celery's handler
    pool.join()
    return ids


@shared_task(bind=True, max_retries=1)
def set_clock(self: Any, file: str, seconds: float, *, retry: bool = False) -> None:
    """The clock of the worker goes wrong by so many seconds while this runs; then it is retried, if asked to."""
    if not self.request.retries:
        progress(0.25)
        Path(file).write_text(str(seconds))
        progress(0.5)
        if retry:
            raise self.retry(countdown=0)


@shared_task
def fail_and_die() -> None:
    """Raise; once that is reported, the process is killed."""
    raise ValueError("failed, and then its process was killed")


@task_failure.connect(sender=fail_and_die)
def _die(**_: Any) -> None:
    if current_process().name != "MainProcess":
        os.kill(os.getpid(), signal.SIGKILL)


def publish_one(_: int) -> str:
    """In a process that `fan_out` started."""
    return noop.delay().id
