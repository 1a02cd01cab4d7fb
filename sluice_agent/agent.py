"""The one place where settings, journal, shipper and signals are put together."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sluice_agent.async_exceptions import is_asynchronous
from sluice_agent.log import complain
from sluice_agent.model import Event, EventType
from sluice_agent.process import Process
from sluice_agent.redaction import Redact
from sluice_agent.settings import Settings
from sluice_agent.stats import Stats
from sluice_agent.transport.accounting import accounts, is_settled
from sluice_agent.transport.cursor import cursor_path, load_cursor
from sluice_agent.transport.directory import EVENTS, VITALS, file_sizes
from sluice_agent.transport.shippers import destinations

BeforeSend = Callable[[Event], Event | None]

EXIT_BUDGET = 5.0  # seconds that a process which ends may spend on delivering
_RESIGNATION = 1.0  # seconds of them that it may spend on letting another one sample the queues

_VITAL_TYPES = tuple(
    f'{{"type":"{kind.value}"'.encode() for kind in (EventType.WORKER_HEARTBEAT, EventType.QUEUE_SNAPSHOT)
)


class Agent:
    """What `install` makes. One to a process; a forked child goes on with the same one, and a `Process` of its own."""

    def __init__(self, settings: Settings, before_send: BeforeSend | None, redact: Redact | None) -> None:
        self._settings = settings
        self._before_send = before_send
        self._process = Process(settings)
        self._destinations = list(destinations(settings))
        self._first = self._destinations[0]
        self.redact = redact
        self.report_progress: Callable[[float], None] = lambda _: None
        os.register_at_fork(after_in_child=self._here)
        atexit.register(self.shutdown)

    def listen(self) -> None:
        """Capture what happens in this process and its children. A monitor does not: it is told by the broker."""
        from sluice_agent import signals  # noqa: PLC0415 - brings Celery's worker along, 2 MB that a monitor need not hold

        settings = self._settings
        self.report_progress = signals.connect(
            connection_id=str(settings.connection),
            emit=self.capture,
            drop=self.drop,
            ignore_tasks=settings.ignore_tasks,
            capture_args=settings.capture_args,
            message_header=settings.message_header,
            redact=self.redact,
            heartbeat_interval=settings.heartbeat_interval,
            on_pool_process=self._note_pool_process,
            on_pool_process_stop=self._finish_pool_process,
            on_worker_setup=self._open_journal,
            on_worker_start=self._note_worker,
            on_worker_stop=self.shutdown,
            losses=self.losses,
            can_keep=self.can_keep,
        )

    def capture(self, event: bytes) -> None:
        """Write `event`, a line of JSON, to the journal. Never blocks, never raises: what can't be kept is counted."""
        if self._before_send is not None:
            event = self._passed(self._before_send, event)
            if not event:
                return
        process = self._here()
        journal = process.journal
        if journal is None:
            process.drop("journal_unavailable")
            return
        journal.append(event, VITALS if event.startswith(_VITAL_TYPES) else EVENTS)
        if process.shippers is None and process.may_ship:
            process.start_shippers()

    def _here(self) -> Process:
        """The state of this process as it is now: after a fork, or a change of user, it is another one."""
        process = self._process
        if not process.is_current():
            process = self._process = process.successor()
        return process

    def _passed(self, before_send: BeforeSend, event: bytes) -> bytes:
        """What the user's hook makes of `event`; nothing where it drops it, or raises, which is counted."""
        try:
            changed = before_send(Event.model_validate_json(event))
            line = changed.to_json() if changed is not None else b""
        except Exception as error:
            if is_asynchronous(error):
                raise
            # The hook is the user's. What it would have hidden is not sent.
            complain("before_send", "before_send raised %s: %s; the event is dropped.", type(error).__name__, error)
            self.drop("before_send_error")
            return b""
        if not line:
            self.drop("before_send")
        return line

    @property
    def directory(self) -> Path | None:
        """Where the journal lies; None where none can be kept."""
        journal = self._here().journal
        return journal.directory if journal is not None else None

    def ship(self) -> None:
        """Begin to ship what others left in the journal, before there is anything to capture."""
        self._here().start_shippers()

    def flush(self, timeout: float) -> bool:
        """Wait until all that is in the journal now is settled, by whoever ships; False where `timeout` comes first."""
        process = self._here()
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
        """Deliver what there is within `timeout` seconds, and leave the rest in the journal for the next process."""
        deadline = time.monotonic() + timeout
        process = self._here()
        if process.sampler is not None:
            process.sampler.stop(min(timeout, _RESIGNATION))
        if process.opened is not None:
            process.opened.close()
        shippers, process.shippers = process.shippers, None
        if shippers is not None:
            shippers.stop(max(deadline - time.monotonic(), 0.0))

    def stats(self) -> Stats:
        """The accounts of the folder that this process writes to, and what this process could not write down."""
        process = self._here()
        if process.journal is None:
            return process.unjournaled.stats(pending=0)
        directory = process.journal.directory
        found = accounts(directory, load_cursor(cursor_path(directory, self._first)))
        for reason, count in process.journal.unwritten.items():
            found["dropped"][reason] = found["dropped"].get(reason, 0) + count
            found["captured"] += count
        return found

    def losses(self) -> Mapping[str, int]:
        """What was dropped in this folder so far, by reason, as far as it was shipped, and what is not written yet.

        The totals and not what was added since: a report that is lost itself is made good by the next one.
        """
        process = self._here()
        if process.journal is None:
            return process.unjournaled.dropped
        place = load_cursor(cursor_path(process.journal.directory, self._first))
        return place.counts.dropped + process.journal.unwritten

    def can_keep(self) -> bool:
        """Whether what is captured now can be written down."""
        journal = self._here().journal
        return journal is not None and not journal.is_refusing

    def drop(self, reason: str) -> None:
        """Count an event that was captured and will not be sent."""
        self._here().drop(reason)

    def _open_journal(self) -> None:
        """A worker has dropped its privileges, and will fork: what there is to say of its folder is said once."""
        self._here().journal  # noqa: B018 - opened by the first who asks

    def _note_worker(self, app: Any, hostname: str) -> None:
        """A worker's main process ships before any other: it lives as long as there is something to tell."""
        process = self._here()
        process.is_worker = True
        if process.shippers is not None:
            process.shippers.request_priority()
        if self._settings.queues:
            self._sample_queues(app, hostname)

    def _sample_queues(self, app: Any, hostname: str) -> None:
        from sluice_agent.monitor.queues import QueueSampler  # noqa: PLC0415 - for those who ask for it

        sampler = self._here().sampler = QueueSampler(
            app,
            connection_id=str(self._settings.connection),
            emit=self.capture,
            drop=self.drop,
            interval=self._settings.queue_interval,
            names=lambda: list(app.amqp.queues),
            owner=hostname,
            must_be_elected=True,
        )
        sampler.start()

    def _note_pool_process(self) -> None:
        """A pool's child never ships: a thread in it would get the signals that its main thread masks as it ends."""
        process = self._here()
        if process.is_forked:  # a solo worker says the same of its one process, which does ship
            process.may_ship = False

    def _finish_pool_process(self) -> None:
        """What a pool's child lost and could not write down is written now or never: it has no other end."""
        process = self._here()
        if process.opened is not None:
            process.opened.close()
