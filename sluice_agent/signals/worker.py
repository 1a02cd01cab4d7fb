"""A worker's own life: online, a heartbeat from a thread of ours, busy and idle, offline."""

from __future__ import annotations

import atexit
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import celery
import kombu
from celery.worker import state as worker_state

from sluice_agent.encoding import worker_event
from sluice_agent.log import complain
from sluice_agent.model import WorkerState
from sluice_agent.signals.agent_marks import AgentMarks
from sluice_agent.signals.context import Sink, guarded

_LOOK_EVERY = 1.0  # seconds between two looks at the load; a worker that flickers faster is not told in between
_POOLS = {"thread": "threads"}  # a pool's module, where it is not what the command line calls it


class WorkerProcess:
    """Speaks for the worker of this process.

    `on_process` hears that a pool process begins, and `on_process_stop` that it ends, both in that process; `on_setup`
    that the worker is about to start its pool, as the user that it is to run as; `on_start`
    that the worker is about to tell that it is online, and `on_stop` that the pool is gone. `losses` says what was
    dropped so far, by reason, for the heartbeats.
    """

    def __init__(
        self,
        sink: Sink,
        heartbeat_interval: float,
        on_process: Callable[[], None],
        on_process_stop: Callable[[], None],
        on_setup: Callable[[], None],
        on_start: Callable[[celery.Celery, str], None],
        on_stop: Callable[[], None],
        losses: Callable[[], Mapping[str, int]],
    ) -> None:
        self._sink = sink
        self._interval = heartbeat_interval
        self._on_process = on_process
        self._on_process_stop = on_process_stop
        self._on_setup = on_setup
        self._on_start = on_start
        self._on_stop = on_stop
        self._losses = losses
        self._stopped = threading.Event()
        self._consumer: Any = None
        self._pid = 0
        self._worker_fields: dict[str, Any] = {}
        self._agent_marks = AgentMarks(sink)
        self._agent_marks.patch_events_and_stats()

    def set_up(self, **_: Any) -> None:
        """The worker is set up, its log too, and starts its pool."""
        self._on_setup()
        self._agent_marks.renew()

    def process_init(self, **_: Any) -> None:
        """A pool process begins, or the process of a solo worker."""
        self._on_process()

    def process_shutdown(self, **_: Any) -> None:
        """A pool process ends: recycled, or with its worker. It leaves by `os._exit`, so this is its last word."""
        self._on_process_stop()

    def ready(self, sender: Any, **_: Any) -> None:
        """The worker takes tasks: tell `online`, and begin to beat."""
        self._consumer, self._pid = sender, os.getpid()
        pool = type(sender.pool).__module__.rpartition(".")[2]
        self._worker_fields["metadata"] = {
            "pool": _POOLS.get(pool, pool),
            "software": f"celery {celery.__version__}",
            "kombu": kombu.__version__,
            "python": platform.python_version(),
            "system": sys.platform,
            "agent": sys.modules["sluice_agent"].__version__,
        }
        self._on_start(sender.app, sender.hostname)
        self._look()
        self._emit(WorkerState.ONLINE)
        atexit.register(guarded(self._sink, self.shutdown))  # a cold shutdown has no signal
        self._stopped.clear()
        threading.Thread(target=self._beat, name="sluice-heartbeat", daemon=True).start()

    def shutdown(self, **_: Any) -> None:
        """The worker has ended: tell `offline`, once."""
        if self._pid != os.getpid():
            return
        self._pid = 0
        self._stopped.set()
        self._emit(WorkerState.OFFLINE)
        self._on_stop()

    @property
    def in_greenlets(self) -> bool:
        """Whether this worker runs its jobs in greenlets."""
        return bool(getattr(getattr(self._consumer, "pool", None), "is_green", False))

    def _beat(self) -> None:
        last_beat = time.monotonic()
        was_busy = False
        while not self._stopped.wait(min(_LOOK_EVERY, self._interval or _LOOK_EVERY)):
            try:
                self._agent_marks.renew()
                self._look()
                is_busy = len(worker_state.active_requests) > 0
                if is_busy is not was_busy:
                    self._emit(WorkerState.BUSY if is_busy else WorkerState.IDLE, within=_LOOK_EVERY)
                    was_busy = is_busy
                now = time.monotonic()
                if self._interval and now - last_beat >= self._interval:
                    last_beat = now
                    self._emit(WorkerState.HEARTBEAT, within=self._interval)
            except Exception as error:  # noqa: BLE001 - the next beat may do better
                self._sink.drop("internal_error")
                complain("heartbeat", "A heartbeat failed (%s: %s).", type(error).__name__, error)

    def _look(self) -> None:
        """See what an operator can change while the worker runs: its size, and the queues that it takes from."""
        with suppress(AttributeError):  # a pool that has just stopped has no size: the last one holds
            self._worker_fields["concurrency"] = self._consumer.pool.num_processes
        self._worker_fields["queues"] = sorted(self._consumer.app.amqp.queues.consume_from)

    def _emit(self, state: WorkerState, **within: Any) -> None:
        about = self._worker_fields
        if state is WorkerState.HEARTBEAT and (dropped := dict(self._losses())):
            about = {**about, "metadata": {**about["metadata"], "dropped": dropped}}
        self._sink.emit(
            worker_event(
                self._sink.connection_id,
                self._consumer.hostname,
                os.getpid(),
                state,
                time.time(),
                activeJobs=len(worker_state.active_requests),
                **within,
                **about,
            )
        )
