"""Celery's signals as events of our model. This package alone runs inside user tasks; it uses no file and no HTTP.

Handlers are connected at import, before any pool forks: one that is connected later never exists in the children.

An event takes one way: a signal or a patched method, a handler, which finds the run, the `Recorder`, the `Sink`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celery import signals

from sluice_agent import attempt_message
from sluice_agent.globs import matcher
from sluice_agent.lifecycle.redaction import Redact, guarded_redact
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.missing_patches import MISSING_PATCHES
from sluice_agent.signals.backend_failures import patch_backend_failures
from sluice_agent.signals.cold_shutdown import ColdShutdown
from sluice_agent.signals.failing_hooks import patch_failing_hooks
from sluice_agent.signals.failures_and_retries import FailuresAndRetries
from sluice_agent.signals.guard import PlainHandler, guarded, guarded_receiver, plain_receiver
from sluice_agent.signals.header_handover import patch_handover
from sluice_agent.signals.hooks import Hooks
from sluice_agent.signals.lost_after_success import patch_stored_successes
from sluice_agent.signals.main_process import MainProcess
from sluice_agent.signals.missing_ends import MissingEnds
from sluice_agent.signals.patching import restore_methods
from sluice_agent.signals.plain_jobs import PlainJobs
from sluice_agent.signals.producer import PublishingProcess
from sluice_agent.signals.progress import Progress
from sluice_agent.signals.publish_hook import BEFORE_PUBLISH_UID
from sluice_agent.signals.received_requests import ReceivedRequests
from sluice_agent.signals.received_runs import ReceivedRuns
from sluice_agent.signals.recorder import Recorder
from sluice_agent.signals.replacing import patch_replacements
from sluice_agent.signals.run_names import RunNames
from sluice_agent.signals.signal_dispatch import handle_nothing, replace_dispatcher
from sluice_agent.signals.task_process import TaskProcess
from sluice_agent.signals.worker import WorkerProcess
from sluice_agent.signals.worker_pool import WorkerPool

__all__ = ["Hooks", "Instrumentation", "connect", "new_sink"]

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
    """Return the sink for an observer with these settings.

    `drop` counts an event that could not be made. `can_keep` returns whether an event that is emitted now can be
    written to the journal: while it can't, a monitor on the same cluster must report it.
    """
    return Sink(
        emit=emit,
        drop=drop,
        connection_id=connection_id,
        is_ignored=matcher(ignore_tasks),
        redact=guarded_redact(redact) if capture_args else None,
        can_keep=can_keep,
    )


def connect(
    sink: Sink,
    hooks: Hooks | None = None,
    *,
    message_header: bool = True,
    heartbeat_interval: float = 5.0,
    direct_dispatch: bool = True,
) -> Instrumentation:
    """Connect a handler to every signal about a job or a worker; the handlers pass their events to `sink`.

    Without `message_header` no message gets our header. `heartbeat_interval` is in seconds; 0: no heartbeat.
    Without `direct_dispatch` Celery's dispatcher calls our receivers in any case: see `signal_dispatch`.
    """
    pool, names = WorkerPool(), RunNames()
    recorder = Recorder(sink)
    requests = ReceivedRequests(pool)
    runs = ReceivedRuns(sink, requests)
    publishing_process = PublishingProcess(sink, recorder, message_header=message_header)
    main_process = MainProcess(sink, recorder, names, requests, runs)
    failures_and_retries = FailuresAndRetries(recorder, runs)
    missing_ends = MissingEnds(sink, recorder)
    task_process = TaskProcess(sink, recorder, names, missing_ends)
    progress = Progress(sink, recorder)
    cold_shutdown = ColdShutdown(sink, main_process.report_unannounced, missing_ends, pool)
    worker = WorkerProcess(sink, pool, cold_shutdown.worker_ended, hooks or Hooks(), heartbeat_interval)

    requests.patch(sink)
    patch_handover(requests.of_request)
    publishing_process.patch(requests.of_request)
    main_process.patch_requeues()
    patch_backend_failures(sink, main_process.report_unannounced)
    patch_stored_successes(sink, main_process.report_unannounced)
    patch_replacements(sink)
    patch_failing_hooks(sink, recorder)
    cold_shutdown.patch_cancellations()
    progress.patch_update_state()
    progress.patch_stored_ends()
    forget_attempts = attempt_message.on_start(guarded(sink, task_process.attempt_started))

    plain_jobs = PlainJobs(sink, names, requests)
    disconnect_handlers = _connect_handlers(
        sink,
        {
            signals.beat_init: publishing_process.name_periodic_tasks,
            signals.beat_embedded_init: publishing_process.name_periodic_tasks,
            signals.task_prerun: task_process.prerun,
            signals.task_postrun: task_process.postrun,
            signals.task_failure: failures_and_retries.failure,
            signals.task_retry: failures_and_retries.retry,
            signals.task_received: main_process.received,
            signals.task_revoked: main_process.revoked,
            signals.task_unknown: main_process.unknown,
            signals.task_rejected: main_process.malformed,
            signals.celeryd_after_setup: worker.set_up,
            signals.worker_process_init: worker.process_init,
            signals.worker_process_shutdown: worker.process_shutdown,
            signals.worker_ready: worker.ready,
            signals.worker_shutting_down: cold_shutdown.shutting_down,
            signals.worker_shutdown: worker.shutdown,
        },
        {
            signals.task_received: plain_jobs.received,
            signals.task_prerun: plain_jobs.started,
            signals.task_postrun: plain_jobs.succeeded,
        },
        is_direct=direct_dispatch,
    )
    MISSING_PATCHES.log()

    def disconnect() -> None:
        disconnect_handlers()
        forget_attempts()
        restore_methods()
        worker.detach()

    return Instrumentation(sink, progress.report, disconnect)


def _connect_handlers(
    sink: Sink,
    handlers: Mapping[Any, Callable[..., None]],
    plain_handlers: Mapping[Any, PlainHandler],
    *,
    is_direct: bool,
) -> Callable[[], None]:
    """Connect the handler of each signal, and that of plain jobs; return a function that disconnects them.

    With `is_direct` those with a handler of plain jobs are called directly: see `signal_dispatch`.
    """
    restore_dispatchers: list[Callable[[], None]] = []
    for signal, handler in handlers.items():
        handle_plain = plain_handlers.get(signal)
        receiver = ordinary = guarded_receiver(sink, handler)
        if handle_plain is not None:
            receiver = plain_receiver(sink, ordinary, handle_plain)
        signal.connect(receiver, weak=False, dispatch_uid=_uid(signal))
        directly = handle_plain if is_direct and handle_plain is not None else handle_nothing
        if signal in _RUN_SIGNALS or directly is not handle_nothing:
            raises = signal is signals.task_prerun
            restore_dispatchers.append(
                replace_dispatcher(sink, signal, receiver, ordinary=ordinary, raises=raises, handle_plain=directly)
            )
    # In a pool's child our receiver runs before all others: what they publish there must not be shipped from it.
    signals.worker_process_init.receivers.sort(key=lambda receiver: receiver[0][0] != _uid(signals.worker_process_init))

    def disconnect() -> None:
        for signal in handlers:
            signal.disconnect(dispatch_uid=_uid(signal))
        signals.before_task_publish.disconnect(dispatch_uid=BEFORE_PUBLISH_UID)
        for restore_dispatcher in restore_dispatchers:
            restore_dispatcher()

    return disconnect


def _uid(signal: Any) -> str:
    return f"sluice_agent.{signal.name}"
