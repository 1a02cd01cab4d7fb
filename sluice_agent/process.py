"""The agent's state in one process, as one user: the journal's files, the threads that ship, the counts.

A forked child shares none of it. Python's fork is detected by its hook, a fork in C, which calls none (uWSGI), by the
process id, and a change of user by the user id (`celery worker --uid`). The first write opens the journal, so that user
owns its directory; a process that only loads the application, as root perhaps, makes none.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from sluice_agent.errors import JournalUnavailableError
from sluice_agent.log import logger, warn_limited
from sluice_agent.settings import Settings
from sluice_agent.stats import Counts
from sluice_agent.transport.journal.directory import open_directory
from sluice_agent.transport.journal.writer import JournalWriter
from sluice_agent.uwsgi import can_run_threads

if TYPE_CHECKING:
    from sluice_agent.monitor.queues import QueueSampler
    from sluice_agent.transport.delivery.shippers import Shippers

_RETRY_SECONDS = 10.0  # until threads that could not be started are tried again


def _shippers() -> type[Shippers]:
    """Import what ships. It brings httpx: a process that never ships starts 40 ms sooner without."""
    from sluice_agent.transport.delivery.shippers import Shippers  # noqa: PLC0415

    return Shippers


class Process:
    """State of the agent that must not outlive the process, or the user, for which it was made: see `successor`."""

    def __init__(self, settings: Settings) -> None:
        self.may_ship = settings.ship == "auto" and settings.has_key
        self.is_forked = False
        self.is_worker = False
        self.sampler: QueueSampler | None = None
        self.shippers: Shippers | None = None
        self.unjournaled = Counts()
        """The drops while there was no journal."""
        self._settings = settings
        self.pid, self.user = os.getpid(), os.geteuid()
        self.opened_journal: JournalWriter | None = None
        """The journal once it is opened, and if a directory can be used."""
        self._opened: dict[str, JournalWriter | None] = {}  # with "journal" once that was tried: None has no directory
        self._start_lock = threading.Lock()
        self._retry_at = 0.0
        self._successors: dict[tuple[int, int], Process] = {}
        if self.may_ship:
            _shippers()  # not in a thread: a child that another one forks meanwhile would have half a module

    def is_current(self) -> bool:
        """Return whether this is still the process, and the user, for which it was made."""
        return self.pid == os.getpid() and self.user == os.geteuid()

    def successor(self) -> Process:
        """Return the state for the new process or user. Concurrent threads get the same one."""
        new = Process(self._settings)
        successor = self._successors.setdefault((new.pid, new.user), new)
        if successor is new:
            new._take_over(self)
        return successor

    @property
    def journal(self) -> JournalWriter | None:
        """The journal of this process; the first access opens it. None if no directory can be used."""
        try:
            return self._opened["journal"]
        except KeyError:
            return self._open()

    def start_shippers(self) -> None:
        """Start to ship from threads of this process, if it may; once."""
        journal = self.journal
        if journal is None or not self.may_ship or time.monotonic() < self._retry_at or not can_run_threads():
            return
        if not self._start_lock.acquire(blocking=False):
            return  # another thread is at it, or this one is, and was interrupted by a signal handler that captures
        try:
            if self.shippers is None:
                self.shippers = _shippers()(self._settings, journal.directory)
                if self.is_worker:
                    self.shippers.request_priority()
                if not self.shippers.start():
                    self.shippers.stop(0)
                    self.shippers, self._retry_at = None, time.monotonic() + _RETRY_SECONDS
        finally:
            self._start_lock.release()

    def drop(self, reason: str) -> None:
        """Count an event that was captured and will not be sent."""
        if self.journal is not None:
            self.journal.drop(reason)
        else:
            self.unjournaled.dropped[reason] += 1
            self.unjournaled.read += 1

    def _open(self) -> JournalWriter | None:
        settings = self._settings
        try:
            directory = open_directory(settings.state_dir, str(settings.connection))
        except JournalUnavailableError as error:
            if "journal" not in self._opened:
                logger.warning("sluice-agent is off: %s", error)
            return self._opened.setdefault("journal", None)
        new = JournalWriter(directory, settings.journal_max_bytes)
        journal = self._opened.setdefault("journal", new)  # a signal handler or another thread may have been faster
        if journal is new:
            new.unwritten.update(self.unjournaled.dropped)
        self.opened_journal = journal
        return journal

    def _take_over(self, former: Process) -> None:
        """Continue from `former`: in a forked child with nothing but its directory, else with its drops."""
        is_child = self.pid != former.pid
        journal = former.opened_journal
        self.may_ship = former.may_ship
        self.is_forked = former.is_forked or is_child
        if self.user == former.user and "journal" in former._opened:
            new = journal and JournalWriter(journal.directory, self._settings.journal_max_bytes)
            self._opened["journal"] = self.opened_journal = new
        if is_child:
            if former.shippers is not None:
                former.shippers.forget()
            if journal is not None:
                journal.forget()
            return
        self.is_worker = former.is_worker
        self.sampler = former.sampler
        if former.shippers is not None:
            former.shippers.stop(0)
        if journal is not None:
            journal.close()
            warn_limited(
                "user",
                "This process now runs as user %d: it starts a new journal, in a directory of that user. A process of "
                "user %d has to deliver the events that are left in %s.",
                self.user,
                former.user,
                journal.directory,
            )
        dropped = former.unjournaled.dropped + (journal.unwritten if journal is not None else Counter())
        self.unjournaled = Counts(dropped=dropped, read=dropped.total())
