"""Celery's signals as events of our model. This package alone runs inside user tasks; it uses no file and no HTTP.

Handlers are connected at import, before any pool forks: one that is connected later never exists in the children.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery, signals

from sluice_agent.globs import matcher
from sluice_agent.lifecycle.redaction import Redact, guarded_redact
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.shortfalls import SHORTFALLS
from sluice_agent.signals.backend_failures import patch_backend_failures
from sluice_agent.signals.cold_shutdown import ColdShutdown
from sluice_agent.signals.failing_hooks import patch_failing_hooks
from sluice_agent.signals.guard import guarded_receiver
from sluice_agent.signals.handover import patch_handover
from sluice_agent.signals.lost_after_success import patch_stored_successes
from sluice_agent.signals.main_process import MainProcess
from sluice_agent.signals.missing_verdicts import MissingVerdicts
from sluice_agent.signals.patching import restore_methods
from sluice_agent.signals.producer import PublishingProcess
from sluice_agent.signals.progress import Progress
from sluice_agent.signals.publish_hook import BEFORE_PUBLISH_UID
from sluice_agent.signals.received_requests import ReceivedRequests
from sluice_agent.signals.replacing import patch_replacements
from sluice_agent.signals.reported import ReportedVerdicts
from sluice_agent.signals.run import RunNames
from sluice_agent.signals.signal_dispatch import pass_interruptions
from sluice_agent.signals.task_process import TaskProcess
from sluice_agent.signals.worker import WorkerProcess

__all__ = ["Instrumentation", "connect", "new_sink"]

_RUN_SIGNALS = (signals.task_prerun, signals.task_postrun, signals.task_failure, signals.task_retry)


@dataclass(frozen=True, slots=True)
class Instrumentation:
    """What `connect` has set up in this process."""

    sink: Sink
    report_progress: Callable[[float], None]
    """The function that a running task calls with its progress (0 to 1)."""
    disconnect: Callable[[], None]
    """Disconnect the handlers and put Celery's methods back. Only for tests: running jobs would not be reported."""


def new_sink(
    *,
    connection_id: str,
    emit: Callable[[bytes], None],
    drop: Callable[[str], None],
    ignore_tasks: tuple[str, ...] = (),
    capture_args: bool = False,
    redact: Redact | None = None,
    can_keep: Callable[[], bool] = lambda: True,
) -> Sink:
    """Return the sink for an observer with these settings: see `connect`."""
    return Sink(
        emit=emit,
        drop=drop,
        connection_id=connection_id,
        is_ignored=matcher(ignore_tasks),
        redact=guarded_redact(redact) if capture_args else None,
        can_keep=can_keep,
    )


def connect(
    *,
    connection_id: str,
    emit: Callable[[bytes], None],
    drop: Callable[[str], None],
    ignore_tasks: tuple[str, ...] = (),
    capture_args: bool = False,
    message_header: bool = True,
    redact: Redact | None = None,
    heartbeat_interval: float = 5.0,
    on_pool_process: Callable[[], None] = lambda: None,
    on_pool_process_stop: Callable[[], None] = lambda: None,
    on_worker_setup: Callable[[], None] = lambda: None,
    on_worker_start: Callable[[Celery, str], None] = lambda _app, _hostname: None,
    on_worker_stop: Callable[[], None] = lambda: None,
    losses: Callable[[], Mapping[str, int]] = dict,
    can_keep: Callable[[], bool] = lambda: True,
) -> Instrumentation:
    """Connect a handler to every signal about a job or a worker; the handlers pass their events to `emit`.

    `drop` counts an event that could not be made. `losses` returns the dropped events by reason: every heartbeat has
    them, so the first one that is delivered reports them. `can_keep` returns whether an event that is emitted now can
    be written to the journal: while it can't, a monitor on the same cluster must report it.
    """
    sink = new_sink(
        connection_id=connection_id,
        emit=emit,
        drop=drop,
        ignore_tasks=ignore_tasks,
        capture_args=capture_args,
        redact=redact,
        can_keep=can_keep,
    )
    received = ReceivedRequests(in_greenlets=lambda: worker.in_greenlets)
    received.patch(sink)
    patch_handover(received.of_request)
    publishing_process = PublishingProcess(sink, message_header=message_header)
    publishing_process.patch(received.of_request)
    reported = ReportedVerdicts()
    missing_verdicts = MissingVerdicts(sink, reported)
    names = RunNames()
    task_process = TaskProcess(sink, missing_verdicts, names)
    main_process = MainProcess(sink, task_process, reported, names, received)
    main_process.patch_requeues()
    patch_backend_failures(sink, main_process.report_once)
    patch_stored_successes(sink, main_process.report_once)
    patch_replacements(sink)
    patch_failing_hooks(sink)
    cold_shutdown = ColdShutdown(sink, main_process.report_once)
    cold_shutdown.patch_cancellations()

    def stop() -> None:
        cold_shutdown.worker_ended(in_greenlets=worker.in_greenlets)
        missing_verdicts.report_all()
        on_worker_stop()

    worker = WorkerProcess(
        sink,
        heartbeat_interval,
        on_pool_process,
        on_pool_process_stop,
        on_worker_setup,
        on_worker_start,
        stop,
        losses,
    )
    progress = Progress(sink, task_process)
    progress.patch_update_state()
    progress.patch_stored_ends()
    handlers: dict[Any, Callable[..., None]] = {
        signals.beat_init: publishing_process.name_periodic_tasks,
        signals.beat_embedded_init: publishing_process.name_periodic_tasks,
        signals.task_prerun: task_process.prerun,
        signals.task_postrun: task_process.postrun,
        signals.task_received: main_process.received,
        signals.task_failure: main_process.failure,
        signals.task_retry: main_process.retry,
        signals.task_revoked: main_process.revoked,
        signals.task_unknown: main_process.unknown,
        signals.task_rejected: main_process.malformed,
        signals.celeryd_after_setup: worker.set_up,
        signals.worker_process_init: worker.process_init,
        signals.worker_process_shutdown: worker.process_shutdown,
        signals.worker_ready: worker.ready,
        signals.worker_shutting_down: cold_shutdown.shutting_down,
        signals.worker_shutdown: worker.shutdown,
    }
    restore_dispatchers: list[Callable[[], None]] = []
    for signal, handler in handlers.items():
        receiver = guarded_receiver(sink, handler)
        signal.connect(receiver, weak=False, dispatch_uid=_uid(signal))
        if signal in _RUN_SIGNALS:
            restore = pass_interruptions(signal, receiver, raises=signal is signals.task_prerun)
            restore_dispatchers.append(restore)
    # In a pool's child our receiver runs before all others: what they publish there must not be shipped from it.
    signals.worker_process_init.receivers.sort(key=lambda receiver: receiver[0][0] != _uid(signals.worker_process_init))
    SHORTFALLS.log()

    def disconnect() -> None:
        for signal in handlers:
            signal.disconnect(dispatch_uid=_uid(signal))
        signals.before_task_publish.disconnect(dispatch_uid=BEFORE_PUBLISH_UID)
        for restore_dispatcher in restore_dispatchers:
            restore_dispatcher()
        restore_methods()
        worker.detach()

    return Instrumentation(sink, progress.report, disconnect)


def _uid(signal: Any) -> str:
    return f"sluice_agent.{signal.name}"
