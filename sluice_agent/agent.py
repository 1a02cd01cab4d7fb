"""The agent: the one module that puts settings, journal, shippers and signals together."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import geteuid, getpid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice_agent.host_budgets import EXIT_BUDGET, RESIGN_BUDGET
from sluice_agent.lifecycle.redaction import Redact
from sluice_agent.notices import log_start, log_stop
from sluice_agent.process import Process
from sluice_agent.settings import Settings
from sluice_agent.stats import Stats
from sluice_agent.transport.delivery.destinations import configured
from sluice_agent.transport.journal.accounting import accounts, is_settled
from sluice_agent.transport.journal.cursor import cursor_path, load_cursor
from sluice_agent.transport.journal.directory import file_sizes
from sluice_agent.transport.journal.line import EVENTS, JOB_BYTE, JOB_INDEX, VITAL_PREFIXES, VITALS

if TYPE_CHECKING:
    from sluice_agent.before_send import BeforeSend
    from sluice_agent.signals import Instrumentation


class Agent:
    """The object that `install` makes, one for each process. A forked child keeps it, with a new `Process`."""

    def __init__(self, settings: Settings, before_send: BeforeSend | None, redact: Redact | None) -> None:
        self._settings = settings
        self._apply_hook: Callable[[bytes], bytes] | None = None
        if before_send is not None:
            from sluice_agent.before_send import apply_hook  # noqa: PLC0415 - pydantic: 30 ms, and 4 MB

            self._apply_hook = partial(apply_hook, before_send, self.drop)
        self._process = Process(settings)
        self._destinations = [destination.name for destination in configured(settings)]
        self._first_destination = self._destinations[0]
        self.redact = redact
        self.report_progress: Callable[[float], None] = lambda _: None
        self.instrumentation: Instrumentation | None = None
        os.register_at_fork(after_in_child=self._current_process)
        atexit.register(self.shutdown)

    def connect_signals(self) -> None:
        """Capture the events of this process and its children. A monitor does not: its events come from the broker."""
        from sluice_agent import signals  # noqa: PLC0415 - imports Celery's worker: 2 MB that a monitor does not need

        settings = self._settings
        sink = signals.new_sink(
            connection_id=str(settings.connection),
            emit=self.capture,
            drop=self.drop,
            ignore_tasks=settings.ignore_tasks,
            capture_args=settings.capture_args,
            redact=self.redact,
            can_keep=self.can_keep,
        )
        hooks = signals.Hooks(
            worker_set_up=self._open_journal,
            worker_started=self._on_worker_start,
            worker_online=self._on_worker_online,
            worker_stopped=self._on_worker_stop,
            pool_process_started=self._on_pool_process,
            pool_process_stopped=self._on_pool_process_stop,
            losses=self.losses,
        )
        self.instrumentation = signals.connect(
            sink,
            hooks,
            message_header=settings.message_header,
            heartbeat_interval=settings.heartbeat_interval,
            direct_dispatch=settings.direct_dispatch,
        )
        self.report_progress = self.instrumentation.report_progress

    def capture(self, event: bytes) -> None:
        """Write `event`, a line of JSON, to the journal. Never block or raise; count an event that can't be kept."""
        if self._apply_hook is not None:
            event = self._apply_hook(event)
            if not event:
                return
        process = self._process
        journal = process.opened_journal
        # The first event, or that of another process or user: see `Process.is_current`. A call of it costs as much.
        if journal is None or process.pid != getpid() or process.user != geteuid():
            process = self._current_process()
            journal = process.journal
            if journal is None:
                process.drop("journal_unavailable")
                return
        if event[JOB_INDEX] == JOB_BYTE or not event.startswith(VITAL_PREFIXES):
            journal.append(event)
        else:
            journal.append(event, VITALS)
        if process.shippers is None and process.may_ship:
            process.start_shippers()

    def capture_all(self, events: Sequence[bytes]) -> None:
        """Write several events as `capture` does, with one `write` for those of a lane."""
        if self._apply_hook is not None:
            for event in events:
                self.capture(event)
            return
        process = self._current_process()
        journal = process.journal
        lanes: dict[str, list[bytes]] = {EVENTS: [], VITALS: []}
        for event in events:
            lanes[VITALS if event.startswith(VITAL_PREFIXES) else EVENTS].append(event)
            if journal is None:
                process.drop("journal_unavailable")
        for lane, lines in lanes.items():
            if journal is not None and lines:
                journal.append_all(lines, lane)
        if process.shippers is None and process.may_ship:
            process.start_shippers()

    def _current_process(self) -> Process:
        """Return the state of the current process: after a fork, or a change of user, a new one."""
        process = self._process
        if not process.is_current():
            process = self._process = process.successor()
        return process

    @property
    def directory(self) -> Path | None:
        """The journal's directory; None if no journal can be kept."""
        journal = self._current_process().journal
        return journal.directory if journal is not None else None

    def ship(self) -> None:
        """Start to ship events that other processes left in the journal, before any event is captured here."""
        self._current_process().start_shippers()

    def flush(self, timeout: float) -> bool:
        """Wait until all lines now in the journal are settled, by any process. Return False if `timeout` runs out."""
        process = self._current_process()
        if process.journal is None:
            return True
        directory = process.journal.directory
        process.start_shippers()
        goal = file_sizes(directory)
        deadline = time.monotonic() + timeout
        while not all(is_settled(directory, name, goal) for name in self._destinations):
            if time.monotonic() >= deadline:
                return False
            if process.shippers is not None:
                process.shippers.wake()
            time.sleep(0.02)
        return True

    def shutdown(self, timeout: float = EXIT_BUDGET) -> None:
        """Deliver pending events for up to `timeout` seconds; leave the rest in the journal for the next process."""
        deadline = time.monotonic() + timeout
        process = self._current_process()
        if process.sampler is not None:
            process.sampler.stop(min(timeout, RESIGN_BUDGET))
        if process.opened_journal is not None:
            process.opened_journal.close()
        shippers, process.shippers = process.shippers, None
        if shippers is not None:
            shippers.stop(max(deadline - time.monotonic(), 0.0))

    def stats(self) -> Stats:
        """Return the counts of the journal's directory, with the drops that this process could not write to it."""
        process = self._current_process()
        if process.journal is None:
            return process.unjournaled.stats(pending=0)
        directory = process.journal.directory
        stats = accounts(directory, load_cursor(cursor_path(directory, self._first_destination)))
        for reason, count in process.journal.unwritten.items():
            stats["dropped"][reason] = stats["dropped"].get(reason, 0) + count
            stats["captured"] += count
        return stats

    def losses(self) -> Mapping[str, int]:
        """Return the drops of this directory so far, by reason: those that were shipped, and those not yet written.

        These are totals, not differences: if a report is lost, the next one makes up for it.
        """
        process = self._current_process()
        if process.journal is None:
            return process.unjournaled.dropped
        cursor = load_cursor(cursor_path(process.journal.directory, self._first_destination))
        return cursor.counts.dropped + process.journal.unwritten

    def can_keep(self) -> bool:
        """Return whether an event that is captured now can be written to the journal."""
        journal = self._current_process().journal
        return journal is not None and not journal.is_refusing

    def drop(self, reason: str) -> None:
        """Count an event that was captured and will not be sent."""
        self._current_process().drop(reason)

    def _open_journal(self) -> None:
        """Open the journal of a worker that has dropped its privileges, before it forks: a fault is logged once."""
        self._current_process().journal  # noqa: B018 - the first access opens it

    def _on_worker_start(self, app: Any, hostname: str) -> None:
        """Let a worker's main process ship before any other: it lives as long as there are events to deliver."""
        process = self._current_process()
        process.is_worker = True
        if process.shippers is not None:
            process.shippers.request_priority()
        if self._settings.queues:
            self._sample_queues(app, hostname)

    def _on_worker_online(self, node: str) -> None:
        if (directory := self.directory) is not None:
            log_start(self._settings, directory, node)

    def _on_worker_stop(self) -> None:
        self.shutdown()
        if (directory := self.directory) is not None:
            log_stop(self._settings, directory)

    def _sample_queues(self, app: Any, hostname: str) -> None:
        from sluice_agent.lifecycle.sink import Sink  # noqa: PLC0415 - only where SLUICE_QUEUES is set
        from sluice_agent.monitor.queues import QueueSampler  # noqa: PLC0415 - the same

        sampler = self._current_process().sampler = QueueSampler(
            app,
            Sink(emit=self.capture, drop=self.drop, connection_id=str(self._settings.connection)),
            interval=self._settings.queue_interval,
            names=lambda: list(app.amqp.queues),
            owner=hostname,
            must_be_elected=True,
        )
        sampler.start()

    def _on_pool_process(self) -> None:
        """Never ship from a pool process: a thread in it would get the signals that its main thread masks at exit."""
        process = self._current_process()
        if process.is_forked:  # a solo worker reports its one process too, which does ship
            process.may_ship = False

    def _on_pool_process_stop(self) -> None:
        """Write the drops of a pool process that were not written yet: there is no later hook."""
        process = self._current_process()
        if process.opened_journal is not None:
            process.opened_journal.close()
