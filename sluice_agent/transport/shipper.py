"""The shipper: one thread that reads the journal, delivers it, and moves the cursor when the endpoint has answered.

Each destination has its own, with a cursor and a lock, so that one that is down delays nothing in another. It runs in
one process for each folder, the one that holds the lock; the others wait for that lock. It never raises, and while it
waits it can always be woken by `stop`.
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

from sluice_agent.log import complain, logger
from sluice_agent.stats import Counts
from sluice_agent.transport import unconfirmed
from sluice_agent.transport.budget import NO_BUDGET, Budget
from sluice_agent.transport.cursor import Cursor, cursor_path, load_cursor
from sluice_agent.transport.dead_letters import add
from sluice_agent.transport.destination import Destination
from sluice_agent.transport.directory import VITALS, check_directory, journal_files, other_versions
from sluice_agent.transport.http import THREAD_NAME, keep_out_of_the_hosts_log
from sluice_agent.transport.lock import ShipLock
from sluice_agent.transport.pulse import TOUCH_EVERY, Pulse
from sluice_agent.transport.reader import Batch, next_batch
from sluice_agent.transport.responses import Settled, TooLarge, TryAgain, Unanswered, Verdict
from sluice_agent.transport.retention import remove_passed
from sluice_agent.transport.retry import GivenUpError, Retrier

_TAKE_OVER_EVERY = 2.0  # seconds between two looks at whether the process that ships has died
_AFTER_A_FAULT = 5.0  # seconds until a loop that failed for a reason nobody thought of goes on
_UP_FOR = 3600.0  # seconds that it holds the lock before it writes off a destination to which nobody ships
_LONGEST_STEP = 120.0  # seconds: longer than any request takes; a thread that does not move for longer is stuck
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # what is removed then makes room for the cursor
_LONGEST_MESSAGE = 300  # characters of an error in the cursor


class Shipper:
    """Ships one folder to one destination, from a thread of its own or, for a command, from the caller's."""

    def __init__(
        self,
        directory: Path,
        destination: Destination,
        *,
        interval: float,
        most_lines: int,
        most_bytes: int,
        budget: Budget = NO_BUDGET,
        touch_every: float = TOUCH_EVERY,
    ) -> None:
        self._directory = directory
        self._destination = destination
        self._interval = interval
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._budget = budget
        self._lock = ShipLock(directory, destination.name)
        self._retrier = Retrier(self._note_failure)
        self._pulse = Pulse(self._lock, self._moves, touch_every)
        self._cursor = Cursor(cursor_path(directory, destination.name))
        self._batch = Batch()
        self._thread: threading.Thread | None = None
        self._holds_lock = False
        self._generation = 0
        self._moved_at = 0.0
        self._held_since = 0.0
        self._is_saved = True
        self._lacks_room = False
        self._deadline = 0.0

    @property
    def destination(self) -> str:
        """The name of where this ships to."""
        return self._destination.name

    def start(self) -> bool:
        """Ship from a thread of this process; False where there can be none: the lock is then left to another."""
        keep_out_of_the_hosts_log()
        thread = threading.Thread(target=self.run, name=f"{THREAD_NAME}-{self.destination}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # a limit of threads, or an interpreter that ends
            complain("threads", "No thread can be started (%s): events wait in %s.", error, self._directory)
            self._lock.release()
            return False
        self._thread = thread
        return True

    def request_priority(self) -> None:
        """Ask for the lock where a process holds it that does not precede, a script's or a web server's."""
        self._lock.has_priority = True

    def claim(self) -> None:
        """Take the lock before any shipper runs: so none of them removes what waits for another."""
        with suppress(OSError, GivenUpError):  # it is tried again, and told, by the thread
            self._has_the_lock()

    def begin_shutdown(self, timeout: float) -> None:
        """Deliver for `timeout` seconds at the most, and while that works; the rest stays in the journal."""
        self._deadline = time.monotonic() + timeout
        self._retrier.begin_shutdown()

    def stop(self, timeout: float) -> None:
        """`begin_shutdown`, and wait until that is done or its time is over."""
        self.begin_shutdown(timeout)
        self.join(timeout)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, or for `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def wake(self) -> None:
        """Look at the journal now rather than at the next interval."""
        self._retrier.wake()

    def forget(self) -> None:
        """In a forked child: the thread is not there, and the lock and the files on their way are the parent's."""
        self._batch.release()
        self._lock.release()

    def run(self) -> None:
        """Ship until `stop`, then what is left within its time."""
        self._pulse.start()
        try:
            while not self._retrier.is_shutting_down:
                self._guarded(self._step)
            self._guarded(self._drain)
        finally:
            self._pulse.stop()
            self._destination.close()
            self._lock.release()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except GivenUpError:
            pass
        except Exception as error:  # noqa: BLE001 - a thread that dies would leave the journal to fill
            subject = f"shipper {self.destination}"
            complain(subject, "The shipper failed (%s: %s); it goes on.", type(error).__name__, error)
            logger.debug("The shipper failed", exc_info=True)
            self._note_fault(error)
            self._retrier.pause(_AFTER_A_FAULT)

    def _note_fault(self, error: Exception) -> None:
        if self._holds_lock:  # else the cursor is another's
            self._note_error(f"the shipper failed ({type(error).__name__}: {error})")
            with suppress(Exception):  # it may be the saving that fails
                self._save()

    def _moves(self) -> bool:
        """Whether the thread that ships has moved lately, or waits."""
        return self._retrier.waits or time.monotonic() - self._moved_at < _LONGEST_STEP

    def _step(self) -> None:
        self._moved_at = time.monotonic()
        if not self._has_the_lock():
            self._retrier.pause(_TAKE_OVER_EVERY)
        elif not self._yield_if_wanted() and not self._ship_a_batch():
            self._remove_finished_files(writes_off=time.monotonic() - self._held_since >= _UP_FOR)
            self._retrier.pause(self._interval)

    def _drain(self) -> None:
        if self._has_the_lock():
            while time.monotonic() < self._deadline and self._ship_a_batch():
                pass
            self._remove_finished_files()

    def _has_the_lock(self) -> bool:
        self._holds_lock = False
        holds_lock = self._lock.acquire()
        if holds_lock and self._generation != self._lock.generation:  # whoever had it before has moved the cursor
            if self._cursor.path.exists():  # else the folder was removed: what this process counted is all there is
                self._cursor = load_cursor(self._cursor.path)
            self._cursor.job_filter = self._destination.job_filter
            self._held_since = time.monotonic()
            self._save()  # from now on files wait for this destination
            if others := other_versions(self._directory):
                complain(
                    "other versions",
                    "%d of another version's files lie in %s: they are not read, and stay.",
                    len(others),
                    self._directory,
                )
            self._generation = self._lock.generation
        self._holds_lock = holds_lock
        return holds_lock

    def _must_hold(self) -> None:
        """The fence: what another process ships now is neither sent nor saved here. Raises `GivenUpError`.

        What was on its way when this process stood still is known to nobody: the endpoint tells the double by its id.
        """
        if not self._lock.is_held():
            self._holds_lock = False
            logger.info("Another process ships %s now: this one did not move for a while.", self._directory)
            raise GivenUpError

    def _yield_if_wanted(self) -> bool:
        if self._lock.yield_if_wanted():
            self._holds_lock = False  # the cursor will have been moved
        return not self._holds_lock

    def _ship_a_batch(self) -> bool:
        """Ship what there is, and say whether there is more of it than a batch holds.

        When the day's budget is gone only heartbeats and queue snapshots are read, and dropped; the rest waits.
        """
        cursor = self._cursor
        left = self._budget.left(cursor)
        selector = cursor.selector if left else cursor.selector.within(VITALS)
        most_lines = min(self._most_lines, left or self._most_lines)
        batch = self._batch = Batch()
        try:
            next_batch(self._directory, cursor.offsets, most_lines, self._most_bytes, selector, batch)
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
        counts.subtract(batch.evicted())
        counts.skipped += batch.skipped
        self._cursor.counts.add(counts)
        self._cursor.offsets.update(batch.offsets)
        unconfirmed.forget(batch.lines, self._cursor)
        if counts.delivered:
            self._cursor.last_delivery = _now()
            self._cursor.last_error = None
        elif counts.rejected:
            self._note_error(next(iter(self._destination.last_response.splitlines()), ""))
        self._save()

    def _save(self) -> None:
        """Save the cursor, or leave that to the next turn: what is delivered on a full disk makes room there."""
        self._must_hold()
        self._is_saved = False
        try:
            self._cursor.save()
        except OSError as error:
            self._lacks_room = error.errno in _NO_ROOM
            complain("cursor", "The cursor %s can't be saved (%s): it is tried again.", self._cursor.path, error)
        else:
            self._is_saved = True

    def _deliver(self, lines: list[bytes]) -> Counts:
        """Bring every event to an end: delivered, or refused and buried. Raises `GivenUpError`."""
        if not lines:
            return Counts()
        verdict = self._retrier.verdict(lambda: self._attempt(lines))
        if isinstance(verdict, Unanswered):
            return Counts(dropped=Counter(answer_lost=len(lines)))
        if isinstance(verdict, Settled):
            if verdict.rejected:
                self._add_dead_letter(lines)
            return Counts(verdict.delivered, verdict.duplicates, verdict.rejected)
        if len(lines) == 1:
            self._add_dead_letter(lines)
            return Counts(rejected=1)
        if isinstance(verdict, TooLarge):
            self._most_bytes = max(min(self._most_bytes, sum(map(len, lines)) // 2), 1)
        middle = len(lines) // 2
        counts = self._deliver(lines[:middle])
        counts.add(self._deliver(lines[middle:]))
        return counts

    def _attempt(self, lines: list[bytes]) -> Verdict:
        self._moved_at = time.monotonic()
        self._must_hold()
        if self._destination.knows_duplicates:
            return self._destination.send(lines, self._must_hold)
        return unconfirmed.at_most_twice(self._destination, lines, self._cursor, self._save)

    def _add_dead_letter(self, lines: list[bytes]) -> None:
        self._must_hold()
        complain(
            f"rejected {self.destination}",
            "%s refused events: they are counted, and kept in %s.",
            self.destination,
            self._directory / "dead",
        )
        try:
            add(self._directory, self.destination, lines, self._destination.last_response)
        except (OSError, ValueError, RecursionError) as error:
            complain("dead", "Refused events can't be kept: %s", error)

    def _note_failure(self, failure: TryAgain) -> None:
        complain(
            f"delivery {self.destination}",
            "Events can't be delivered to %s: %s. They wait in %s.",
            self.destination,
            failure.why,
            self._directory,
        )
        self._note_error(failure.why)
        self._save()
        if self._yield_if_wanted():  # perhaps the one that asks gets through
            raise GivenUpError

    def _note_error(self, message: str) -> None:
        self._cursor.last_error = {"at": _now(), "message": message[:_LONGEST_MESSAGE]}

    def _remove_finished_files(self, *, writes_off: bool = False) -> None:
        """Remove what every destination has passed, and forget the places in files that are gone."""
        self._must_hold()
        if not self._may_remove():
            return
        remove_passed(self._directory, self._cursor, writes_off=writes_off)
        gone = self._cursor.offsets.keys() - set(journal_files(self._directory))
        for name in gone:
            del self._cursor.offsets[name]
        if gone or not self._is_saved or not self._cursor.is_kept():
            self._save()

    def _may_remove(self) -> bool:
        """Whether what is removed stays accounted for: it is in the cursor, or will be once there is room for that.

        A process that has become root again may remove the files of the user that it was, and must not save there.
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
