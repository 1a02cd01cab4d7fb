"""The events of a worker: online, a heartbeat from a thread of ours, busy and idle, offline."""

from __future__ import annotations

import atexit
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import celery
import kombu
from celery.worker import state as worker_state

from sluice_agent.lifecycle.encoding import WorkerFields, WorkerMetadata, pool_name, worker_event
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.log import warn_limited
from sluice_agent.model import WorkerState
from sluice_agent.signals.agent_marks import AgentMarks
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.hooks import Hooks
from sluice_agent.signals.worker_pool import WorkerPool

_POLL_INTERVAL = 1.0  # seconds between two checks of the load; changes in between are not reported


class WorkerProcess:
    """Reporter of the events of this process's worker, at `heartbeat_interval` seconds, 0 for no heartbeat.

    `report_open_jobs` is called when the worker has ended: it reports the jobs of which no end follows.
    """

    def __init__(
        self,
        sink: Sink,
        pool: WorkerPool,
        report_open_jobs: Callable[[], None],
        hooks: Hooks,
        heartbeat_interval: float,
    ) -> None:
        self._sink = sink
        self._pool = pool
        self._report_open_jobs = report_open_jobs
        self._hooks = hooks
        self._interval = heartbeat_interval
        self._stopped = threading.Event()
        self._consumer: Any = None
        self._pid = 0
        self._fields: WorkerFields = {}
        self._metadata: WorkerMetadata = {}
        self._agent_marks = AgentMarks(sink)
        self._agent_marks.patch_events_and_stats()

    def set_up(self, **_: Any) -> None:
        """Call the hook: the worker is set up, its log too, and starts its pool next."""
        self._hooks.worker_set_up()
        self._agent_marks.renew()

    def process_init(self, **_: Any) -> None:
        """Call the hook: a pool process begins, or the process of a solo worker."""
        self._hooks.pool_process_started()

    def process_shutdown(self, **_: Any) -> None:
        """Call the hook: a pool process ends, recycled or with its worker. Then it calls `os._exit`."""
        self._hooks.pool_process_stopped()

    def ready(self, sender: Any, **_: Any) -> None:
        """Report `online` and start the heartbeat: the worker takes tasks."""
        self._consumer, self._pid = sender, os.getpid()
        self._pool.in_greenlets = bool(getattr(sender.pool, "is_green", False))
        self._metadata = {
            "pool": pool_name(type(sender.pool).__module__),
            "software": f"celery {celery.__version__}",
            "kombu": kombu.__version__,
            "python": platform.python_version(),
            "system": sys.platform,
            "agent": sys.modules["sluice_agent"].__version__,
        }
        if self._interval:
            self._metadata["heartbeatInterval"] = self._interval
        self._hooks.worker_started(sender.app, sender.hostname)
        self._update_fields()
        self._emit(WorkerState.ONLINE)
        atexit.register(guarded(self._sink, self.shutdown))  # a cold shutdown has no signal
        self._stopped.clear()
        threading.Thread(target=self._beat, name="sluice-heartbeat", daemon=True).start()
        self._hooks.worker_online(sender.hostname)

    def shutdown(self, **_: Any) -> None:
        """Report `offline`, once: the worker has ended."""
        if self._pid != os.getpid():
            return
        self._pid = 0
        self._stopped.set()
        self._emit(WorkerState.OFFLINE)
        self._report_open_jobs()
        self._hooks.worker_stopped()

    def detach(self) -> None:
        """Report nothing more: the signals are disconnected, and no further one ends the heartbeat."""
        self._pid = 0
        self._stopped.set()
        self._agent_marks.remove()

    def _beat(self) -> None:
        last_beat = time.monotonic()
        was_busy = False
        while not self._stopped.wait(min(_POLL_INTERVAL, self._interval or _POLL_INTERVAL)):
            try:
                self._agent_marks.renew()
                self._update_fields()
                is_busy = len(worker_state.active_requests) > 0
                if is_busy is not was_busy:
                    self._emit(WorkerState.BUSY if is_busy else WorkerState.IDLE, within=_POLL_INTERVAL)
                    was_busy = is_busy
                now = time.monotonic()
                if self._interval and now - last_beat >= self._interval:
                    last_beat = now
                    self._emit(WorkerState.HEARTBEAT, within=self._interval)
            except Exception as error:  # noqa: BLE001 - the next beat may do better
                self._sink.drop("internal_error")
                warn_limited("heartbeat", "A heartbeat failed (%s: %s).", type(error).__name__, error)

    def _update_fields(self) -> None:
        """Update the fields that an operator can change at run time: the pool's size, and the queues consumed from."""
        with suppress(AttributeError):  # a pool that has just stopped has no size: the last one is kept
            self._fields["concurrency"] = self._consumer.pool.num_processes
        self._fields["queues"] = sorted(self._consumer.app.amqp.queues.consume_from)

    def _emit(self, state: WorkerState, **within: float) -> None:
        metadata = self._metadata
        if state is WorkerState.HEARTBEAT and (dropped := dict(self._hooks.losses())):
            metadata = {**metadata, "dropped": dropped}
        self._fields["activeJobs"] = len(worker_state.active_requests)
        self._sink.emit(
            worker_event(
                self._sink.connection_id,
                self._consumer.hostname,
                os.getpid(),
                state,
                time.time(),
                metadata=metadata,
                **within,
                **self._fields,
            )
        )
