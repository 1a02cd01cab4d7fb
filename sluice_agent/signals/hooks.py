"""What the agent does at certain moments of a worker, beside reporting them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from celery import Celery


def _do_nothing() -> None: ...


def _ignore_start(_app: Celery, _hostname: str) -> None: ...


def _ignore_node(_hostname: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Hooks:
    """The functions that are called at the moments of a worker; by default they do nothing."""

    worker_set_up: Callable[[], None] = _do_nothing
    """The worker is set up, as the user that it will run as, and starts its pool next."""
    worker_started: Callable[[Celery, str], None] = _ignore_start
    """The worker of that app and node name takes jobs now. It is called before the worker is reported as online."""
    worker_online: Callable[[str], None] = _ignore_node
    """The worker of that node name has been reported as online."""
    worker_stopped: Callable[[], None] = _do_nothing
    """The worker has ended, and so has its pool: every event of its jobs is emitted."""
    pool_process_started: Callable[[], None] = _do_nothing
    """A pool process begins, or the process of a solo worker. It is called in that process, before other receivers."""
    pool_process_stopped: Callable[[], None] = _do_nothing
    """A pool process ends, in that process."""
    losses: Callable[[], Mapping[str, int]] = dict
    """Return the events dropped so far, by reason: every heartbeat has them, so the first that arrives reports them."""
