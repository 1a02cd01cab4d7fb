"""What the agent has in one process, as one user: the journal's files, the threads that ship, the counts.

A forked child has none of that: Python's fork is known by its hook, and one in C, which calls none (uWSGI), by the
process's id, as is a change of user by his (`celery worker --uid`). The journal is opened by the first who writes, so
its folder is that user's; a process that only loads the application, as root perhaps, makes none.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from sluice_agent.errors import JournalUnavailableError
from sluice_agent.log import complain, logger
from sluice_agent.settings import Settings
from sluice_agent.stats import Counts
from sluice_agent.transport.directory import open_directory
from sluice_agent.transport.journal import Journal
from sluice_agent.transport.shippers import Shippers
from sluice_agent.uwsgi import threads_run

if TYPE_CHECKING:
    from sluice_agent.monitor.queues import QueueSampler

_AGAIN = 10.0  # seconds until threads that could not be started are tried again


class Process:
    """State of the agent that must not outlive the process, or the user, that it was made for: see `successor`."""

    def __init__(self, settings: Settings) -> None:
        has_a_key = settings.api_key is not None or settings.ackly_ingest_key is not None
        self.may_ship = settings.ship == "auto" and has_a_key
        self.is_forked = False
        self.is_worker = False
        self.sampler: QueueSampler | None = None
        self.shippers: Shippers | None = None
        self.unjournaled = Counts()
        """What was dropped while there was no journal."""
        self._settings = settings
        self._pid, self._user = os.getpid(), os.geteuid()
        self._opened: dict[str, Journal | None] = {}  # empty until somebody writes; None: no folder can be used
        self._starting = threading.Lock()
        self._starts_at = 0.0
        self._successors: dict[tuple[int, int], Process] = {}

    def is_current(self) -> bool:
        """Whether this is still the process, and the user, that it was made for: 0.3 µs, asked at each event."""
        return self._pid == os.getpid() and self._user == os.geteuid()

    def successor(self) -> Process:
        """The state for what this process has become. Threads that ask at once are given the same one."""
        made = Process(self._settings)
        found = self._successors.setdefault((made._pid, made._user), made)
        if found is made:
            made._follow(self)
        return found

    @property
    def journal(self) -> Journal | None:
        """Where this process writes; opened by the first who asks. None where no folder can be used."""
        try:
            return self._opened["journal"]
        except KeyError:
            return self._open()

    @property
    def opened(self) -> Journal | None:
        """The same, and None where nobody has asked yet."""
        return self._opened.get("journal")

    def start_shippers(self) -> None:
        """Ship from threads of this process, if it may; once."""
        journal = self.journal
        if journal is None or not self.may_ship or time.monotonic() < self._starts_at or not threads_run():
            return
        if not self._starting.acquire(blocking=False):
            return  # another thread is at it, or this one is, and was interrupted by a signal handler that captures
        try:
            if self.shippers is None:
                self.shippers = Shippers(self._settings, journal.directory)
                if self.is_worker:
                    self.shippers.request_priority()
                if not self.shippers.start():
                    self.shippers.stop(0)
                    self.shippers, self._starts_at = None, time.monotonic() + _AGAIN
        finally:
            self._starting.release()

    def drop(self, reason: str) -> None:
        """Count an event that was captured and will not be sent."""
        if self.journal is not None:
            self.journal.drop(reason)
        else:
            self.unjournaled.dropped[reason] += 1
            self.unjournaled.read += 1

    def _open(self) -> Journal | None:
        settings = self._settings
        try:
            directory = open_directory(settings.state_dir, str(settings.connection))
        except JournalUnavailableError as error:
            if "journal" not in self._opened:
                logger.warning("sluice-agent is off: %s", error)
            return self._opened.setdefault("journal", None)
        made = Journal(directory, settings.journal_max_bytes)
        found = self._opened.setdefault("journal", made)  # a signal handler or another thread may have been faster
        if found is made:
            made.unwritten.update(self.unjournaled.dropped)
        return found

    def _follow(self, former: Process) -> None:
        """Begin where `former` ends: in a forked child with nothing of it but the folder, else with its losses."""
        is_child = self._pid != former._pid
        journal = former.opened
        self.may_ship = former.may_ship
        self.is_forked = former.is_forked or is_child
        if self._user == former._user and "journal" in former._opened:
            self._opened["journal"] = journal and Journal(journal.directory, self._settings.journal_max_bytes)
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
            complain(
                "user",
                "This process has become user %d: its journal begins anew, in a folder of that user. What is left in "
                "%s is delivered by a process of user %d.",
                self._user,
                journal.directory,
                former._user,
            )
        losses = former.unjournaled.dropped + (journal.unwritten if journal is not None else Counter())
        self.unjournaled = Counts(dropped=losses, read=losses.total())
