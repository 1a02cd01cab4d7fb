"""The shipper: a thread that reads the journal, delivers it, and moves the cursor when the endpoint has answered.

Each destination has its own shipper, with a cursor and a lock, so that one that is down delays no other. It runs in one
process of a directory, the one that holds the lock; the others wait for the lock. It never raises, and `stop` can
always wake it while it waits.
"""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from sluice_agent.log import logger, warn_limited
from sluice_agent.stats import Counts
from sluice_agent.transport.delivery import unconfirmed
from sluice_agent.transport.delivery.budget import NO_BUDGET, Budget
from sluice_agent.transport.delivery.client import Client, Connect
from sluice_agent.transport.delivery.http import THREAD_NAME, hide_request_logs
from sluice_agent.transport.delivery.lock_keepalive import LockKeepalive
from sluice_agent.transport.delivery.responses import Settled, TooLarge, TryAgain, Unanswered, Verdict
from sluice_agent.transport.delivery.retry import GivenUpError, Retrier
from sluice_agent.transport.delivery.timing import TIMING, Timing
from sluice_agent.transport.journal import dead_letters
from sluice_agent.transport.journal.cursor import Cursor, cursor_path, load_cursor
from sluice_agent.transport.journal.directory import check_directory, other_versions
from sluice_agent.transport.journal.line_selector import JobFilter
from sluice_agent.transport.journal.reader import Batch, Reader
from sluice_agent.transport.journal.retention import remove_passed
from sluice_agent.transport.journal.ship_lock import ShipLock

_MAX_STEP_SECONDS = 120.0  # seconds, longer than any request takes: a thread whose step takes longer is stuck
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # then the removal of files makes room for the cursor
_MAX_MESSAGE = 300  # characters of an error in the cursor


class Shipper:
    """Ships one directory to one destination, from its own thread or, for a command, from the caller's.

    `connect` makes the client that delivers. A destination that does not deduplicate is sent one line at a time.
    """

    def __init__(
        self,
        directory: Path,
        destination: str,
        connect: Connect,
        *,
        interval: float,
        max_lines: int,
        max_bytes: int,
        deduplicates: bool = True,
        job_filter: JobFilter | None = None,
        budget: Budget = NO_BUDGET,
        timing: Timing = TIMING,
    ) -> None:
        self.destination = destination
        """The name of the destination."""
        self._directory = directory
        self._job_filter = job_filter
        self._interval = interval
        self._timing = timing
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._budget = budget
        self._lock = ShipLock(directory, destination)
        self._retrier = Retrier(self._record_failure, timing)
        self._keepalive = LockKeepalive(self._lock, self._is_moving, timing.touch)
        self._cursor = Cursor(cursor_path(directory, destination))
        self._client: Client = (
            connect(self._check_lock_held)
            if deduplicates
            else unconfirmed.AtMostTwice(destination, connect, lambda: self._cursor, self._save)
        )
        self._reader = Reader(directory)
        self._batch = Batch()
        self._thread: threading.Thread | None = None
        self._holds_lock = False
        self._generation = 0
        self._moved_at = 0.0
        self._held_since = 0.0
        self._is_saved = True
        self._lacks_room = False
        self._deadline = 0.0
        self._logged_remedy = ""

    def start(self) -> bool:
        """Ship from a thread of this process; return False if none can be started: another process may then ship."""
        hide_request_logs()
        thread = threading.Thread(target=self.run, name=f"{THREAD_NAME}-{self.destination}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # a limit of threads, or an interpreter that ends
            warn_limited("threads", "The shipper's thread can't start (%s): events wait in %s.", error, self._directory)
            self._lock.release()
            return False
        self._thread = thread
        return True

    def request_priority(self) -> None:
        """Request the lock from a holder without priority, such as a script or a web server."""
        self._lock.has_priority = True

    def claim(self) -> None:
        """Take the lock before any shipper runs: so none of them removes files that another destination needs."""
        with suppress(OSError, GivenUpError):  # the thread tries again, and reports the error
            self._acquire_lock()

    def begin_shutdown(self, timeout: float) -> None:
        """Deliver for at most `timeout` seconds, until a delivery fails; the rest stays in the journal."""
        self._deadline = time.monotonic() + timeout
        self._retrier.begin_shutdown()

    def stop(self, timeout: float) -> None:
        """Begin the shutdown, and wait until it is done or `timeout` seconds are over."""
        self.begin_shutdown(timeout)
        self.join(timeout)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, or for `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def wake(self) -> None:
        """Read the journal now, rather than at the next interval."""
        self._retrier.wake()

    def forget(self) -> None:
        """Close the copies of a forked child: it has no thread, and the parent keeps the lock and the batch's files."""
        self._batch.release()
        self._lock.release()

    def run(self) -> None:
        """Ship until `begin_shutdown`, then the rest within its timeout."""
        self._keepalive.start()
        try:
            while not self._retrier.is_shutting_down:
                self._guarded(self._step)
            self._guarded(self._drain)
        finally:
            self._keepalive.stop()
            self._client.close()
            self._lock.release()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except GivenUpError:
            pass
        except Exception as error:  # noqa: BLE001 - a thread that dies would leave the journal to fill
            subject = f"shipper {self.destination}"
            warn_limited(subject, "The shipper failed (%s: %s): it tries again.", type(error).__name__, error)
            logger.debug("The shipper failed", exc_info=True)
            self._record_fault(error)
            self._retrier.pause(self._timing.fault_pause)

    def _record_fault(self, error: Exception) -> None:
        if self._holds_lock:  # else the cursor is another's
            self._record_error(f"the shipper failed ({type(error).__name__}: {error})")
            with suppress(Exception):  # saving may be what failed
                self._save()

    def _is_moving(self) -> bool:
        """Return whether the shipping thread waits, or has begun a step or an attempt lately."""
        return self._retrier.is_waiting or time.monotonic() - self._moved_at < _MAX_STEP_SECONDS

    def _step(self) -> None:
        self._moved_at = time.monotonic()
        if not self._acquire_lock():
            self._retrier.pause(self._timing.takeover_check)
        elif not self._yield_if_wanted() and not self._ship_a_batch():
            self._remove_finished_files(writes_off=time.monotonic() - self._held_since >= self._timing.write_off)
            self._retrier.pause(self._interval)

    def _drain(self) -> None:
        if self._acquire_lock():
            while time.monotonic() < self._deadline and self._ship_a_batch():
                pass
            self._remove_finished_files()

    def _acquire_lock(self) -> bool:
        self._holds_lock = False
        holds_lock = self._lock.acquire()
        if holds_lock and self._generation != self._lock.generation:  # the previous holder has moved the cursor
            if (
                self._cursor.saved_at() is not None
            ):  # else the directory was removed: only this process still has the counts
                self._cursor = load_cursor(self._cursor.path)
            self._cursor.job_filter = self._job_filter
            self._held_since = time.monotonic()
            self._save()  # from now on files are kept for this destination
            if others := other_versions(self._directory):
                warn_limited(
                    "other versions",
                    "%d of another version's files are in %s: this version does not read them, and leaves them there.",
                    len(others),
                    self._directory,
                )
            self._generation = self._lock.generation
        self._holds_lock = holds_lock
        return holds_lock

    def _check_lock_held(self) -> None:
        """Fence: raise `GivenUpError` if another process ships now; then this one neither sends nor saves.

        The fate of a request that was under way when this process stalled is unknown: the endpoint detects a duplicate.
        """
        if not self._lock.is_held():
            self._holds_lock = False
            logger.info("Another process ships %s now, as this one was stalled for a while.", self._directory)
            raise GivenUpError

    def _yield_if_wanted(self) -> bool:
        if self._lock.yield_if_wanted():
            self._holds_lock = False  # the next holder moves the cursor
        return not self._holds_lock

    def _ship_a_batch(self) -> bool:
        """Ship the next batch, and return whether more events are pending than it holds."""
        cursor = self._cursor
        selector, max_lines = self._budget.readable(cursor, self._max_lines)
        batch = self._batch = Batch()
        try:
            self._reader.next_batch(cursor.offsets, max_lines, self._max_bytes, selector, batch)
            if batch:
                lines, thinned = self._budget.thin(batch.lines, cursor)
                counts = self._deliver(lines)
                self._budget.spend(cursor, counts.delivered + counts.rejected)
                counts.dropped.update(thinned)
                self._settle(batch, counts)
            return batch.is_full
        finally:
            batch.release()

    def _settle(self, batch: Batch, counts: Counts) -> None:
        counts.dropped.update(batch.dropped)
        counts.read = len(batch.lines) + batch.dropped.total()
        counts.subtract(batch.evicted_counts())
        counts.skipped += batch.skipped
        self._cursor.counts.add(counts)
        self._cursor.offsets.update(batch.offsets)
        unconfirmed.forget(batch.lines, self._cursor)
        if counts.delivered:
            self._cursor.last_delivery = _now()
            self._cursor.last_error = None
            if self._logged_remedy:
                logger.info("Events are delivered to %s now.", self.destination)
                self._logged_remedy = ""
        self._save()

    def _save(self) -> None:
        """Save the cursor, or leave that to the next step: on a full disk, delivery makes room for it."""
        self._check_lock_held()
        self._is_saved = False
        try:
            self._cursor.save()
        except OSError as error:
            self._lacks_room = error.errno in _DISK_FULL
            warn_limited("cursor", "The cursor %s can't be saved (%s): this is retried.", self._cursor.path, error)
        else:
            self._is_saved = True

    def _deliver(self, lines: list[bytes]) -> Counts:
        """Settle every event: as delivered, dropped, or refused and kept as a dead letter. Raises `GivenUpError`."""
        if not lines:
            return Counts()
        verdict = self._retrier.verdict(lambda: self._attempt(lines))
        if isinstance(verdict, Unanswered):
            return Counts(dropped=Counter(answer_lost=len(lines)))
        if isinstance(verdict, Settled):
            if verdict.rejected:
                self._record_refusal(lines, verdict.answer)
            return Counts(verdict.delivered, verdict.duplicates, verdict.rejected)
        if len(lines) == 1:
            self._record_refusal(lines, verdict.answer)
            return Counts(rejected=1)
        if isinstance(verdict, TooLarge):
            self._max_bytes = max(min(self._max_bytes, sum(map(len, lines)) // 2), 1)
        middle = len(lines) // 2
        counts = self._deliver(lines[:middle])
        counts.add(self._deliver(lines[middle:]))
        return counts

    def _attempt(self, lines: list[bytes]) -> Verdict:
        self._moved_at = time.monotonic()
        return self._client.send(lines)

    def _record_refusal(self, lines: list[bytes], answer: str) -> None:
        """Keep refused events as a dead letter. The error stays in the cursor unless others of the batch arrive."""
        self._check_lock_held()
        warn_limited(
            f"rejected {self.destination}",
            "%s refused events: they are counted as rejected, and kept in %s.",
            self.destination,
            self._directory / "dead",
        )
        try:
            dead_letters.add(self._directory, self.destination, lines, answer)
        except (OSError, ValueError, RecursionError) as error:
            warn_limited("dead", "Refused events can't be kept as dead letters (%s): they are only counted.", error)
        self._record_error(next(iter(answer.splitlines()), ""))

    def _record_failure(self, failure: TryAgain) -> None:
        text = "Events can't be delivered to %s: %s. They wait in %s."
        values = (self.destination, failure.reason.rstrip("."), self._directory)
        if not failure.remedy:
            warn_limited(f"delivery {self.destination}", text, *values)
        elif failure.remedy != self._logged_remedy and warn_limited(  # once: it lasts until a person does something
            f"remedy {self.destination}", f"{text} %s", *values, failure.remedy
        ):
            self._logged_remedy = failure.remedy
        self._record_error(failure.reason)
        self._save()
        if self._yield_if_wanted():  # the other process may reach the endpoint
            raise GivenUpError

    def _record_error(self, message: str) -> None:
        self._cursor.last_error = {"at": _now(), "message": message[:_MAX_MESSAGE]}

    def _remove_finished_files(self, *, writes_off: bool = False) -> None:
        """Remove the files that every destination has passed, and the cursor's offsets in files that are gone."""
        self._check_lock_held()
        if not self._may_remove():
            return
        left = remove_passed(self._directory, self._cursor, writes_off=writes_off)
        gone = self._cursor.offsets.keys() - left
        for name in gone:
            del self._cursor.offsets[name]
        if gone or not self._is_saved or not self._cursor.is_unchanged():
            self._save()

    def _may_remove(self) -> bool:
        """Return whether removed events stay counted: in the saved cursor, or in one saved once the disk has room.

        A process that is root again may remove the files of the user that it was before, but must not save there.
        """
        try:
            check_directory(self._directory)
        except OSError:
            return False
        if not self._is_saved:
            self._save()
        return self._is_saved or self._lacks_room


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
