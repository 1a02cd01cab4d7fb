"""The task that executes attempts of the jobs API: `celery -A app worker -I sluice_agent.jobs.tasks -Q sluice.jobs`.

It needs nothing of the extra `server`. The server's address is SLUICE_API_URL, and never comes from a message.
"""

from __future__ import annotations

import hashlib
import ipaddress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from celery import Task, shared_task
from celery.exceptions import Ignore, Retry
from celery.signals import worker_init, worker_ready, worker_shutting_down
from celery.worker.request import Request

from sluice_agent import attempt_message
from sluice_agent.errors import ConfigError, SluiceError
from sluice_agent.jobs.worker import under_way
from sluice_agent.jobs.worker.executor import End, Executor
from sluice_agent.jobs.worker.outcomes import OutcomeFiles
from sluice_agent.jobs.worker.server import JobsServer
from sluice_agent.log import warn_limited
from sluice_agent.settings import Settings, key_text
from sluice_agent.transport.journal.directory import open_directory

_LONGEST = 100_000
"""Seconds that no attempt takes: it ends by the `timeout_secs` of its job, and not by limits of the app's tasks."""


class AttemptFailedError(Exception):
    """The last attempt of a run has failed. The message has the reason."""


class AttemptTimedOutError(AttemptFailedError):
    """The last attempt of a run was not answered in time."""


@lru_cache(maxsize=1)
def worker_parts() -> tuple[Executor, under_way.UnderWay]:
    """Return what executes attempts in this worker.

    Raises `SluiceError` if a setting is wrong, or no directory can be used.
    """
    settings = Settings()
    key = key_text(settings.api_key)
    if key is None and not _is_loopback(settings.api_url):
        raise ConfigError(
            f"SLUICE_API_KEY is not set: a worker of jobs needs a key for SLUICE_API_URL, which is {settings.api_url}"
        )
    server = JobsServer(settings.api_url, key)
    name = hashlib.sha256(settings.api_url.encode()).hexdigest()[:16]  # one directory for each server
    outcomes = OutcomeFiles(open_directory(settings.state_dir, f"outcomes-{name}"))
    attempts = under_way.UnderWay(server, outcomes, under_way.BEAT_SECONDS)
    return Executor(server, outcomes, attempts), attempts


class AttemptRequest(Request):  # type: ignore[misc] # Celery has no types
    """The request of an attempt, which a cold shutdown can end in a pool of threads as well."""

    def cancel(self, *args: Any, **kwargs: Any) -> None:
        """End the attempt, as each other task; or by its connections, where the pool can't end a task."""
        try:
            super().cancel(*args, **kwargs)
        except NotImplementedError:
            worker_parts()[1].stop()


def _run_attempt(task: Task) -> None:
    """Execute one attempt of the run whose id the task has, and end as it does."""
    message = attempt_message.read(vars(task.request))
    if message is None:
        warn_limited("jobs-message", "A message for %s is dropped: it is no attempt of a run", attempt_message.TASK)
        raise Ignore
    executor, _ = worker_parts()
    execution = executor.execute(str(task.request.id), message, lambda: attempt_message.report_start(task))
    if execution.end is End.DROPPED:
        raise Ignore
    if execution.end is End.CANCELED:
        _store_canceled(task)
        raise Ignore
    if execution.end is End.RETRIED:
        raise Retry(execution.error)  # the server publishes the next attempt
    if execution.end is End.TIMED_OUT:
        raise AttemptTimedOutError(execution.error)
    if execution.end is End.FAILED:
        raise AttemptFailedError(execution.error)


def _store_canceled(task: Task) -> None:
    try:
        task.update_state(state="REVOKED")
    except Exception as error:  # noqa: BLE001 - a result backend that is away changes nothing
        warn_limited("jobs-canceled", "A canceled run can't be stored in the result backend: %s", error)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_settings(**_: Any) -> None:
    """End a worker that could execute nothing, with the reason."""
    try:
        worker_parts()
    except SluiceError as error:
        raise SystemExit(f"sluice_agent.jobs.tasks: {error}") from None


def _stop_if_cold(how: str = "", **_: Any) -> None:
    """Abort the requests of a worker that does not wait for them: Celery itself ends none in a pool of threads."""
    if how == "Cold":
        worker_parts()[1].stop()


def _deliver_what_waits(**_: Any) -> None:
    """Deliver outcomes that another process of this host has left."""
    worker_parts()[1].start()


run_attempt = shared_task(
    name=attempt_message.TASK,
    bind=True,
    Request=AttemptRequest,
    acks_late=False,
    reject_on_worker_lost=False,
    max_retries=0,
    time_limit=_LONGEST,
    soft_time_limit=_LONGEST,
    ignore_result=True,
    throws=(AttemptFailedError,),
)(_run_attempt)
worker_init.connect(_check_settings)
worker_ready.connect(_deliver_what_waits)
worker_shutting_down.connect(_stop_if_cold)
