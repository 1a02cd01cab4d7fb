"""Celery's signals in our model. The only room that runs inside user tasks; it knows nothing of files and of HTTP.

Handlers are connected at import, before any pool forks: one that is connected later never exists in the children.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery, signals

from sluice_agent.ignoring import ignoring
from sluice_agent.redaction import Redact, unfailing
from sluice_agent.shortfalls import SHORTFALLS
from sluice_agent.signals.cut_off import CutOff
from sluice_agent.signals.execution import Execution
from sluice_agent.signals.failing_hooks import watch_failing_hooks
from sluice_agent.signals.handed import watch_handing
from sluice_agent.signals.lost_after_success import watch_stored_successes
from sluice_agent.signals.progress import Progress
from sluice_agent.signals.publishing import Publishing
from sluice_agent.signals.received import Received
from sluice_agent.signals.replacing import watch_replacements
from sluice_agent.signals.run import RunNames
from sluice_agent.signals.sending import let_through
from sluice_agent.signals.silence import Silence
from sluice_agent.signals.told import Told
from sluice_agent.signals.unstored import watch_unstored_ends
from sluice_agent.signals.verdicts import Verdicts
from sluice_agent.signals.watch import Watch, guarded
from sluice_agent.signals.workers import Workers

__all__ = ["connect"]

_OF_A_RUN = (signals.task_prerun, signals.task_postrun, signals.task_failure, signals.task_retry)


def connect(
    *,
    connection_id: str,
    emit: Callable[[bytes], None],
    lost: Callable[[str], None],
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
) -> Callable[[float], None]:
    """Listen to every signal that tells of a job or a worker; what is heard goes to `emit`.

    `lost` counts an event that could not be made. `losses` says what was dropped, by reason: each heartbeat tells it,
    so that it gets through with the first that does. `can_keep` says whether what is emitted now can be written down:
    while it can't, a monitor on the same cluster is to report it. Returns what a running task calls with its progress
    (0 to 1).
    """
    watch = Watch(
        emit=emit,
        lost=lost,
        connection_id=connection_id,
        is_ignored=ignoring(ignore_tasks),
        redact=unfailing(redact) if capture_args else None,
        can_keep=can_keep,
    )
    received = Received(in_greenlets=lambda: workers.in_greenlets)
    received.watch(watch)
    watch_handing(received.of_request)
    publishing = Publishing(watch, message_header=message_header)
    publishing.watch(received.of_request)
    told = Told()
    silence = Silence(watch, told)
    names = RunNames()
    execution = Execution(watch, silence, names)
    verdicts = Verdicts(watch, execution, told, names, received)
    verdicts.watch_requeues()
    watch_unstored_ends(watch, verdicts.tell_of)
    watch_stored_successes(watch, verdicts.tell_of)
    watch_replacements(watch)
    watch_failing_hooks(watch)
    cut_off = CutOff(watch, verdicts.tell_of)
    cut_off.watch_cancellations()

    def stop() -> None:
        cut_off.worker_ended(in_greenlets=workers.in_greenlets)
        silence.tell_all()
        on_worker_stop()

    workers = Workers(
        watch,
        heartbeat_interval,
        on_pool_process,
        on_pool_process_stop,
        on_worker_setup,
        on_worker_start,
        stop,
        losses,
    )
    progress = Progress(watch, execution)
    progress.watch_update_state()
    progress.watch_stored_ends()
    handlers: dict[Any, Callable[..., None]] = {
        signals.beat_init: publishing.name_periodic_tasks,
        signals.beat_embedded_init: publishing.name_periodic_tasks,
        signals.task_prerun: execution.prerun,
        signals.task_postrun: execution.postrun,
        signals.task_received: verdicts.received,
        signals.task_failure: verdicts.failure,
        signals.task_retry: verdicts.retry,
        signals.task_revoked: verdicts.revoked,
        signals.task_unknown: verdicts.unknown,
        signals.task_rejected: verdicts.malformed,
        signals.celeryd_after_setup: workers.set_up,
        signals.worker_process_init: workers.process_init,
        signals.worker_process_shutdown: workers.process_shutdown,
        signals.worker_ready: workers.ready,
        signals.worker_shutting_down: cut_off.shutting_down,
        signals.worker_shutdown: workers.shutdown,
    }
    for signal, handler in handlers.items():
        receiver = guarded(watch, handler)
        signal.connect(receiver, weak=False, dispatch_uid=_uid(signal))
        if signal in _OF_A_RUN:
            let_through(signal, receiver, raises=signal is signals.task_prerun)
    # In a pool's child our word comes before what others do there as it begins: what they publish must not be shipped.
    signals.worker_process_init.receivers.sort(key=lambda receiver: receiver[0][0] != _uid(signals.worker_process_init))
    SHORTFALLS.log()
    return progress.report


def _uid(signal: Any) -> str:
    return f"sluice_agent.{signal.name}"
