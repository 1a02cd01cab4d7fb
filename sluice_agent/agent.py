"""The one place where settings, journal, shipper and signals are put together, and where a fork is survived."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice_agent.errors import JournalUnavailableError
from sluice_agent.log import complain, logger
from sluice_agent.model import Event, EventType
from sluice_agent.redaction import Redact
from sluice_agent.settings import Settings
from sluice_agent.stats import Counts, Stats
from sluice_agent.transport import accounts, cursor
from sluice_agent.transport.folder import EVENTS, VITALS, file_sizes, open_folder
from sluice_agent.transport.journal import Journal
from sluice_agent.transport.shippers import Shippers, destinations

if TYPE_CHECKING:
    from sluice_agent.monitor.queues import QueueSampler

BeforeSend = Callable[[Event], Event | None]

EXIT_BUDGET = 5.0  # seconds that a process which ends may spend on delivering
_RESIGNATION = 1.0  # seconds of them that it may spend on letting another one sample the queues

_VITAL_TYPES = tuple(
    f'{{"type":"{kind.value}"'.encode() for kind in (EventType.WORKER_HEARTBEAT, EventType.QUEUE_SNAPSHOT)
)


class Agent:
    """What `install` makes. One to a process; a forked child goes on with the same one, as `after_fork` leaves it."""

    def __init__(self, settings: Settings, before_send: BeforeSend | None, redact: Redact | None) -> None:
        self._settings = settings
        self._before_send = before_send
        self._journal = _journal(settings)
        self._destinations = list(destinations(settings))
        self._first = self._destinations[0]
        self._shippers: Shippers | None = None
        self._starting = threading.Lock()
        has_a_key = settings.api_key is not None or settings.ackly_ingest_key is not None
        self._may_ship = settings.ship == "auto" and has_a_key
        self._is_forked = False
        self._is_worker = False
        self._sampler: QueueSampler | None = None
        self._unjournaled = Counts()
        self.redact = redact
        self.report_progress: Callable[[float], None] = lambda _: None
        os.register_at_fork(after_in_child=self._after_fork)
        atexit.register(self.shutdown)

    def listen(self) -> None:
        """Capture what happens in this process and its children. A monitor does not: it is told by the broker."""
        from sluice_agent import signals  # noqa: PLC0415 - brings Celery's worker along, 2 MB that a monitor need not hold

        settings = self._settings
        self.report_progress = signals.connect(
            connection_id=str(settings.connection),
            emit=self.capture,
            lost=self.drop,
            ignore_tasks=settings.ignore_tasks,
            capture_args=settings.capture_args,
            redact=self.redact,
            heartbeat_interval=settings.heartbeat_interval,
            on_pool_process=self._note_pool_process,
            on_pool_process_stop=self._finish_pool_process,
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
        journal = self._journal
        if journal is None:
            self.drop("journal_unavailable")
            return
        journal.append(event, VITALS if event.startswith(_VITAL_TYPES) else EVENTS)
        if self._shippers is None and self._may_ship:
            self._start_shippers(journal.folder)

    def _passed(self, before_send: BeforeSend, event: bytes) -> bytes:
        """What the user's hook makes of `event`; nothing where it drops it, or raises, which is counted."""
        try:
            changed = before_send(Event.model_validate_json(event))
            line = changed.to_json() if changed is not None else b""
        except Exception as error:  # noqa: BLE001 - the hook is the user's; what it would have hidden is not sent
            complain("before_send", "before_send raised %s: %s; the event is dropped.", type(error).__name__, error)
            self.drop("before_send_error")
            return b""
        if not line:
            self.drop("before_send")
        return line

    @property
    def folder(self) -> Path | None:
        """Where the journal lies; None where none can be kept."""
        return self._journal.folder if self._journal is not None else None

    def ship(self) -> None:
        """Begin to ship what others left in the journal, before there is anything to capture."""
        if self._journal is not None and self._shippers is None and self._may_ship:
            self._start_shippers(self._journal.folder)

    def flush(self, timeout: float) -> bool:
        """Wait until all that is in the journal now is settled, by whoever ships; False where `timeout` comes first."""
        if self._journal is None:
            return True
        folder = self._journal.folder
        if self._shippers is None and self._may_ship:
            self._start_shippers(folder)
        goal = file_sizes(folder)
        deadline = time.monotonic() + timeout
        while not all(accounts.is_settled(folder, name, goal) for name in self._destinations):
            if time.monotonic() >= deadline:
                return False
            if self._shippers is not None:
                self._shippers.nudge()
            time.sleep(0.02)
        return True

    def shutdown(self, timeout: float = EXIT_BUDGET) -> None:
        """Deliver what there is within `timeout` seconds, and leave the rest in the journal for the next process."""
        deadline = time.monotonic() + timeout
        if self._sampler is not None:
            self._sampler.stop(min(timeout, _RESIGNATION))
        if self._journal is not None:
            self._journal.close()
        shippers, self._shippers = self._shippers, None
        if shippers is not None:
            shippers.stop(max(deadline - time.monotonic(), 0.0))

    def stats(self) -> Stats:
        """The accounts of the folder that this process writes to, and what this process could not write down."""
        if self._journal is None:
            return self._unjournaled.stats(pending=0)
        folder = self._journal.folder
        found = accounts.accounts(folder, cursor.load(cursor.cursor_path(folder, self._first)))
        for reason, count in self._journal.unwritten.items():
            found["dropped"][reason] = found["dropped"].get(reason, 0) + count
            found["captured"] += count
        return found

    def losses(self) -> Mapping[str, int]:
        """What was dropped in this folder so far, by reason, as far as it was shipped, and what is not written yet.

        The totals and not what was added since: a report that is lost itself is made good by the next one.
        """
        if self._journal is None:
            return self._unjournaled.dropped
        place = cursor.load(cursor.cursor_path(self._journal.folder, self._first))
        return place.counts.dropped + self._journal.unwritten

    def can_keep(self) -> bool:
        """Whether what is captured now can be written down."""
        return self._journal is not None and not self._journal.is_refusing

    def drop(self, reason: str) -> None:
        """Count an event that was captured and will not be sent."""
        if self._journal is not None:
            self._journal.drop(reason)
        else:
            self._unjournaled.dropped[reason] += 1
            self._unjournaled.taken += 1

    def _start_shippers(self, folder: Path) -> None:
        if not self._starting.acquire(blocking=False):
            return  # another thread is at it, or this one is, and was interrupted by a signal handler that captures
        try:
            if self._shippers is None:
                self._shippers = Shippers(self._settings, folder)
                if self._is_worker:
                    self._shippers.precede()
                self._shippers.start()
        finally:
            self._starting.release()

    def _note_worker(self, app: Any, hostname: str) -> None:
        """A worker's main process ships before any other: it lives as long as there is something to tell."""
        self._is_worker = True
        if self._shippers is not None:
            self._shippers.precede()
        if self._settings.queues:
            self._sample_queues(app, hostname)

    def _sample_queues(self, app: Any, hostname: str) -> None:
        from sluice_agent.monitor.queues import QueueSampler  # noqa: PLC0415 - for those who ask for it

        self._sampler = QueueSampler(
            app,
            connection_id=str(self._settings.connection),
            emit=self.capture,
            lost=self.drop,
            interval=self._settings.queue_interval,
            names=lambda: list(app.amqp.queues),
            owner=hostname,
            must_be_elected=True,
        )
        self._sampler.start()

    def _note_pool_process(self) -> None:
        """A pool's child never ships: a thread in it would get the signals that its main thread masks as it ends."""
        if self._is_forked:  # a solo worker says the same of its one process, which does ship
            self._may_ship = False

    def _finish_pool_process(self) -> None:
        """What a pool's child lost and could not write down is written now or never: it has no other end."""
        if self._journal is not None:
            self._journal.close()

    def _after_fork(self) -> None:
        """In the child: nothing that is the parent's is used."""
        self._starting = threading.Lock()
        self._is_forked = True
        self._is_worker = False
        self._sampler = None
        if self._shippers is not None:
            self._shippers.forget()
            self._shippers = None
        if self._journal is not None:
            self._journal.forget()


def _journal(settings: Settings) -> Journal | None:
    try:
        folder = open_folder(settings.state_dir, str(settings.connection))
    except JournalUnavailableError as error:
        logger.warning("sluice-agent is off: %s", error)
        return None
    return Journal(folder, settings.journal_max_bytes)
