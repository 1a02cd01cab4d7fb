"""The Celery app of the integration tests: one task for each way in which a task can end.

Configured by the environment only, as tests start its processes: BROKER_URL, RESULT_BACKEND, CELERY_CONF
(more settings, as JSON). The agent is installed unless SLUICE_TEST_INSTALL is 0.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import billiard.pool
import billiard.process
from celery import Celery, Task, chain, group, shared_task
from celery.exceptions import Ignore, Reject, Retry
from celery.states import EXCEPTION_STATES

from tests.support import atomic_filesystem
from tests.support.waiting import POLL_SECONDS

atomic_filesystem.install()

app = Celery("tests.integration.tasks")
app.conf.update(
    broker_url=os.environ.get("BROKER_URL", "memory://"),
    result_backend=os.environ.get("RESULT_BACKEND", "cache+memory://"),
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=True,
    **json.loads(os.environ.get("CELERY_CONF", "{}")),
)

if os.environ.get("SLUICE_TEST_INSTALL", "1") != "0":
    import sluice_agent

    if hasattr(sluice_agent, "install"):
        sluice_agent.install()

if os.environ.get("POOL_HANGS"):  # as billiard's pool does when a child died with a lock that the others need
    billiard.pool.Pool.join = lambda _: threading.Event().wait()


# Tasks that end well


@shared_task
def noop() -> None:
    pass


@shared_task
def add(x: float, y: float) -> float:
    return x + y


@shared_task
def tsum(numbers: list[float]) -> float:
    """Return the sum: the body of a chord."""
    return sum(numbers)


@shared_task
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@shared_task
def hold(started: str, release: str, timeout: float = 60.0) -> bool:
    """Create the file `started`, then stay active until the file `release` exists: tests wait without guessing.

    If `release` is a FIFO, the task does not run at all until something is in it: no signal finds it running.
    """
    Path(started).touch()
    if Path(release).is_fifo():
        return _wait_for_content(release, timeout)
    deadline = time.monotonic() + timeout
    while not Path(release).exists() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return Path(release).exists()


def _wait_for_content(fifo: str, timeout: float) -> bool:
    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return bool(select.select([descriptor], [], [], timeout)[0])
    finally:
        os.close(descriptor)


@shared_task(acks_late=True)
def hold_late(started: str, release: str, timeout: float = 60.0) -> bool:
    """Run `hold`, acknowledged when it has ended."""
    return hold(started, release, timeout)


@shared_task
def mark(path: str, line: str = "ran") -> None:
    """Append a line to a file, which counts the runs."""
    with Path(path).open("a") as file:
        file.write(f"{line}\n")


@shared_task
def progress(steps: int) -> int:
    import sluice_agent

    for step in range(1, steps + 1):
        sluice_agent.progress(step / steps)
    return steps


@shared_task(bind=True)
def replace_self(self: Task) -> Any:
    """Continue as `add`, under the same id."""
    return self.replace(add.si(1, 2))


@shared_task(bind=True, max_retries=1)
def retry_and_replace_self(self: Task) -> Any:
    """Be retried once, then continue as another task under the same id."""
    if not self.request.retries:
        raise self.retry(exc=ValueError("attempt 1"), countdown=0)
    return self.replace(add.si(1, 2))


@shared_task(bind=True)
def replace_self_by_retrying_task(self: Task) -> Any:
    """Continue as a task that is retried once, under the same id."""
    return self.replace(retry_then_succeed.si(1))


@shared_task(bind=True)
def replace_self_by_chain(self: Task) -> Any:
    """Continue as a chain, whose last task has the same id."""
    return self.replace(chain(add.si(1, 2), add.s(3), add.s(4)))


@shared_task(bind=True)
def replace_self_by_group(self: Task) -> Any:
    """Continue as a group, or rather as the task that collects its results under the same id."""
    return self.replace(group(add.si(1, 2), add.si(3, 4)))


@shared_task
def handle_error(task_id: str) -> str:
    """Return the id; `link_error` calls this in a separate job, since its only parameter is the id."""
    return task_id


@shared_task(bind=True)
def progress_by_state(self: Task, steps: int) -> int:
    """Report progress by Celery's convention."""
    for step in range(1, steps + 1):
        self.update_state(state="PROGRESS", meta={"current": step, "total": steps})
    return steps


@shared_task(bind=True)
def strange_progress(self: Task) -> None:
    import sluice_agent

    for fraction in (float("nan"), float("inf"), -1, 2, 10**400, "half", None):
        sluice_agent.progress(fraction)  # type: ignore[arg-type]
    for current, total in ((1, 0), ("a", []), (10**400, 1), (1, 10**400)):
        self.update_state(state="PROGRESS", meta={"current": current, "total": total})
    for meta in (None, {}, "text"):
        self.update_state(state="PROGRESS", meta=meta)


class LateProgress(Task):
    """A task that reports progress when it has ended."""

    def after_return(self, *_: Any) -> None:
        import sluice_agent

        sluice_agent.progress(0.9)


@shared_task(base=LateProgress)
def late_progress() -> NoReturn:
    raise ValueError("boom")


@shared_task
def publish_children(count: int) -> list[str]:
    return [noop.delay().id for _ in range(count)]


@shared_task
def publish_child(task_id: str) -> None:
    """Publish a task under a given id."""
    noop.apply_async(task_id=task_id)


@shared_task(bind=True)
def headers_seen(self: Task) -> dict[str, Any]:
    """Return the message's custom headers, and the request's attributes with the agent's name."""
    attributes = [name for name in vars(self.request) if name == "sluice_agent"]
    return {"headers": self.request.headers, "attributes": attributes}


# Tasks that raise


@shared_task
def fail(message: str = "on purpose") -> NoReturn:
    raise ValueError(message)


@shared_task
def fail_with_cause() -> NoReturn:
    try:
        os.environ["NO_SUCH_VARIABLE"]
    except KeyError as cause:
        raise ValueError("outer") from cause


@shared_task(bind=True, max_retries=100)
def retry_then_succeed(self: Task, times: int, countdown: float = 0.0) -> int:
    if self.request.retries < times:
        raise self.retry(exc=ValueError(f"attempt {self.request.retries + 1}"), countdown=countdown)
    return self.request.retries + 1


@shared_task(bind=True, max_retries=1)
def retry_and_hold(self: Task, started: str, release: str) -> bool:
    """Be retried once; the second attempt is `hold`."""
    if not self.request.retries:
        raise self.retry(exc=ValueError("attempt 1"), countdown=0)
    return hold(started, release)


@shared_task(bind=True)
def retry_without_raising(self: Task) -> None:
    """Publish the second attempt, and return."""
    if not self.request.retries:
        self.retry(countdown=1, throw=False)


@shared_task(bind=True)
def retry_swallowed(self: Task) -> None:
    """Catch the `Retry` that reports the second attempt to Celery, and fail."""
    if not self.request.retries:
        try:
            self.retry(countdown=1)
        except Retry:
            raise ValueError("boom") from None


@shared_task(bind=True)
def publish_self_again(self: Task) -> None:
    """Publish the second attempt by hand."""
    if not self.request.retries:
        self.apply_async(task_id=self.request.id, retries=1, countdown=1)


@shared_task(bind=True, max_retries=2)
def retry_exhausted(self: Task, countdown: float = 0.0) -> NoReturn:
    """Fail three attempts, then raise the exception that was passed to `retry`."""
    raise self.retry(exc=ValueError(f"attempt {self.request.retries + 1}"), countdown=countdown)


@shared_task(bind=True, max_retries=2)
def retry_exhausted_bare(self: Task) -> NoReturn:
    """Fail three attempts, then raise MaxRetriesExceededError."""
    raise self.retry(countdown=0)


@shared_task(bind=True, autoretry_for=(ValueError,), max_retries=2, default_retry_delay=0)
def autoretry_exhausted(self: Task) -> NoReturn:
    raise ValueError(f"attempt {self.request.retries + 1}")


class UnpicklableError(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class UnprintableError(Exception):
    def __str__(self) -> NoReturn:
        raise RuntimeError("__str__ on purpose")

    __repr__ = __str__


@shared_task
def unpicklable_error() -> NoReturn:
    raise UnpicklableError("holds a lock")


@shared_task
def unprintable_error() -> NoReturn:
    raise UnprintableError


@shared_task
def group_of_errors() -> NoReturn:
    """Raise two errors in a group, with a note."""
    group = getattr(builtins, "ExceptionGroup", None)
    if group is None:  # Python 3.10
        raise RuntimeError("no groups")
    error = group("several", [ValueError("one"), KeyError("two")])
    error.add_note("see the manual")
    raise error


@shared_task
def big_error(characters: int) -> NoReturn:
    raise ValueError("x" * characters)


@shared_task
def surrogate_error() -> NoReturn:
    """Raise an error with a text that `os.fsdecode` makes of a file name that is not UTF-8."""
    raise ValueError("no such file: \udcff\udcfe")


@shared_task
def unserialisable_result() -> Any:
    return threading.Lock()


def _fail_once(backend: Any, method: str) -> None:
    def fail_once(*_: Any, **__: Any) -> NoReturn:
        delattr(backend, method)
        raise ConnectionError("the result backend is away")

    setattr(backend, method, fail_once)


@shared_task(bind=True)
def unstored_result(self: Task) -> None:
    """Return while the result backend is unavailable; it is back when Celery stores the failure of that."""
    _fail_once(self.backend, "mark_as_done")


@shared_task(bind=True)
def unstored_failure(self: Task) -> NoReturn:
    """Fail while the result backend is unavailable."""
    _fail_once(self.backend, "mark_as_failure")
    raise ValueError("boom")


@shared_task(bind=True)
def unstored_retry(self: Task) -> None:
    """Retry while the result backend is unavailable."""
    if not self.request.retries:
        _fail_once(self.backend, "mark_as_retry")
        raise self.retry(exc=ValueError("boom"), countdown=0)


class _Notifying(Task):
    """A task with hooks that report to an unavailable chat."""

    def on_failure(self, *_: object) -> NoReturn:
        raise ConnectionError("the chat is away")

    def on_retry(self, *_: object) -> NoReturn:
        raise ConnectionError("the chat is away")


@shared_task(base=_Notifying)
def on_failure_raises() -> NoReturn:
    raise KeyError("the task's own")


@shared_task(base=_Notifying, bind=True)
def on_retry_raises(self: Task) -> None:
    if not self.request.retries:
        raise self.retry(exc=ValueError("boom"), countdown=0)


# Tasks that end otherwise


@shared_task(bind=True)
def stores_its_failure(self: Task) -> NoReturn:
    meta = {"exc_type": "ValueError", "exc_message": ["boom"], "order": 7}
    self.update_state(state="FAILURE", meta=meta)
    raise Ignore


@shared_task(bind=True)
def marks_its_failure(self: Task) -> NoReturn:
    self.backend.mark_as_failure(self.request.id, ValueError("boom"))
    raise Ignore


@shared_task(bind=True)
def marks_its_revocation(self: Task) -> NoReturn:
    self.backend.mark_as_revoked(self.request.id, "no longer needed")
    raise Ignore


@shared_task(bind=True)
def stores_its_revocation(self: Task) -> NoReturn:
    self.update_state(state="REVOKED", meta={"exc_type": "TaskRevokedError", "exc_message": ["not wanted"]})
    raise Ignore


@shared_task(bind=True)
def stores_its_state(self: Task, state: str) -> NoReturn:
    self.backend.store_result(self.request.id, ValueError("boom") if state in EXCEPTION_STATES else 7, state)
    raise Ignore


@shared_task(bind=True)
def marks_itself_done(self: Task) -> NoReturn:
    self.backend.mark_as_done(self.request.id, 7)
    raise Ignore


@shared_task(bind=True)
def clears_its_request(self: Task) -> None:
    self.request.clear()


@shared_task
def ignore() -> NoReturn:
    raise Ignore


@shared_task(bind=True, acks_late=True)
def reject(self: Task, requeue: bool = False) -> str:
    """Reject; if requeued, succeed the second time."""
    if self.request.delivery_info.get("redelivered"):
        return "redelivered"
    raise Reject("on purpose", requeue=requeue)


@shared_task
def reject_too_late() -> NoReturn:
    """Reject a message that was acknowledged before the run."""
    raise Reject("on purpose", requeue=True)


@shared_task
def cancelled() -> NoReturn:
    """Raise the exception of a cancelled coroutine; Celery does not treat it as an exception of the task."""
    raise asyncio.CancelledError


@shared_task(acks_late=True)
def reject_once(path: str) -> str:
    """Be rejected and requeued in the first run, leaving the file `path` behind, and succeed in the second."""
    marker = Path(path)
    if marker.exists():
        return "second run"
    marker.touch()
    raise Reject("on purpose", requeue=True)


@shared_task
def exit_with(code: int = 1) -> NoReturn:
    sys.exit(code)


def die() -> NoReturn:
    """Kill this process by SIGKILL, late enough: the pool gives a job that it has not seen start to another process."""
    time.sleep(1.5)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


@shared_task
def kill_self() -> None:
    die()


@shared_task(acks_late=True)
def kill_self_late() -> None:
    die()


@shared_task(bind=True, acks_late=True, retry_on_worker_lost=True, default_retry_delay=0, max_retries=3)
def kill_self_and_retry(self: Task) -> int:
    """Die by SIGKILL in the first attempt; Celery 5.7 publishes the second."""
    if not self.request.retries:
        die()
    return self.request.retries


@shared_task(acks_late=True, reject_on_worker_lost=True)
def kill_self_once(path: str) -> str:
    """Die by SIGKILL in the first run, leaving the file `path` behind, and succeed in the second."""
    marker = Path(path)
    if marker.exists():
        return "second run"
    marker.touch()
    die()


class DiesAfterSuccess(Task):
    """Kills its process when the result is stored, but its end not yet reported; once for each `path`."""

    def on_success(self, retval: str, task_id: str, args: tuple[str], kwargs: object) -> None:
        marker = Path(args[0])
        if not marker.exists():
            marker.touch()
            die()


@shared_task(base=DiesAfterSuccess)
def killed_after_success(path: str) -> str:
    return path


@shared_task(base=DiesAfterSuccess, acks_late=True)
def killed_after_success_late(path: str) -> str:
    return path


@shared_task(base=DiesAfterSuccess, acks_late=True, reject_on_worker_lost=True)
def killed_after_success_requeued(path: str) -> str:
    return path


@shared_task(soft_time_limit=1)
def soft_limited() -> None:
    """Run until the limit strikes, however late; in pools that have none, a little beyond it."""
    time.sleep(60.0 if _is_in_prefork() else 1.5)


def _raise_timeout(*_: object) -> NoReturn:
    raise TimeoutError("the task's own")


@shared_task
def limits_itself(seconds: float) -> None:
    """Run until SIGALRM, which strikes in the agent's code or outside: most of the time is spent in the agent."""
    import sluice_agent

    before = signal.signal(signal.SIGALRM, _raise_timeout)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    begin = time.monotonic()
    try:
        while True:
            sluice_agent.progress((time.monotonic() - begin) / 60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@shared_task(time_limit=1)
def hard_limited() -> None:
    """Run until the limit strikes, however late; in pools that have none, a little beyond it."""
    time.sleep(60.0 if _is_in_prefork() or _is_in_gevent() else 1.5)


def _is_in_prefork() -> bool:
    return bool(billiard.process.current_process().name != "MainProcess")


def _is_in_gevent() -> bool:
    """Return whether this process has been patched by gevent."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("time")
