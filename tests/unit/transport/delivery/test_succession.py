"""A stalled holder of the lock: the next process ships in its place, and the former sends nothing more."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sluice_agent.transport.delivery.lock_keepalive import LockKeepalive
from sluice_agent.transport.delivery.responses import Settled, Verdict
from sluice_agent.transport.delivery.shipper import Shipper
from sluice_agent.transport.delivery.timing import Timing
from sluice_agent.transport.journal.cursor import cursor_path, load_cursor
from sluice_agent.transport.journal.ship_lock import STALLED_SECONDS, ShipLock, current_shipper, ship_lock
from sluice_agent.transport.journal.writer import JournalWriter
from tests.support.waiting import wait_until
from tests.unit.transport.lines import event, figures


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of the process that waits."""
    return Clock()


def takes_over(lock: ShipLock, clock: Clock, seconds: float) -> bool:
    """Try to take the lock every two seconds, as a shipper does; return whether it was taken by the end."""
    for _ in range(int(seconds / 2)):
        clock.now += 2
        if lock.acquire():
            return True
    return False


@contextmanager
def child_without_hooks() -> Iterator[None]:
    """A living child that has run no fork hook: as one that is forked in C."""
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_released_lock_is_free_despite_copies(directory: Path) -> None:
    """The children of a uWSGI master would keep its lock for as long as they live, and nothing would be delivered."""
    holder, wanting = ShipLock(directory, "sluice"), ShipLock(directory, "sluice")
    wanting.has_priority = True
    assert holder.acquire()
    assert not wanting.acquire()
    with child_without_hooks():
        holder.release()
        assert current_shipper(directory, "sluice") is None
        assert wanting.acquire()
        assert not holder.is_wanted()
    wanting.release()


def test_a_finished_file_is_free_despite_copies(directory: Path) -> None:
    """Each finished file of a uWSGI master would stay on the disk until its children end, and look unfinished."""
    journal = JournalWriter(directory, 64_000_000)
    journal.append(event(1))
    with child_without_hooks():
        journal.close()
        shipper = Shipper(directory, "sluice", AcceptingDestination().connect, interval=0, max_lines=9, max_bytes=9_999)
        shipper._step()  # delivers it, and holds what it delivers
        shipper._step()
        assert not list(directory.glob("*.ndjson"))
    shipper._lock.release()


def test_a_stalled_holder_is_replaced(directory: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """The first uWSGI process without threads would end the delivery of the whole host for as long as it lives."""
    holder, waiting = ShipLock(directory, "sluice"), ShipLock(directory, "sluice", clock)
    assert holder.acquire()
    assert not takes_over(waiting, clock, STALLED_SECONDS)
    assert takes_over(waiting, clock, 6)
    assert not holder.is_held()
    assert not holder.acquire()
    assert waiting.acquire()
    [record] = caplog.records
    assert f"Process {os.getpid()} on " in record.getMessage()
    waiting.release()
    assert holder.acquire()
    holder.release()
    assert {path.name for path in directory.iterdir()} == {"ship-sluice.lock"}


def test_a_running_holder_is_never_replaced(directory: Path, clock: Clock) -> None:
    """Two processes would send the same, over and over, while both believe that they ship."""
    holder, waiting = ShipLock(directory, "sluice"), ShipLock(directory, "sluice", clock)
    assert holder.acquire()
    for _ in range(10):
        assert not takes_over(waiting, clock, STALLED_SECONDS)
        holder.touch()
    holder.release()


def test_a_machine_that_slept_takes_no_lock_away(directory: Path, clock: Clock) -> None:
    """A laptop that was closed for an hour, or containers stopped together: no process could touch its lock."""
    holder, waiting = ShipLock(directory, "sluice"), ShipLock(directory, "sluice", clock)
    assert holder.acquire()
    assert not takes_over(waiting, clock, 4)
    clock.now += 3_600
    assert not waiting.acquire()
    assert holder.is_held()
    holder.release()


def test_of_two_that_replace_at_once_one_ships(directory: Path, clock: Clock) -> None:
    """The herd of a host whose shipper stands still would ship everything as often as there are processes."""
    holder, *waiting = (ShipLock(directory, "sluice", clock) for _ in range(4))
    assert holder.acquire()
    for _ in range(20):
        clock.now += 2
        held = [lock.acquire() for lock in waiting]
    assert sum(held) == 1
    assert [lock.is_held() for lock in waiting] == held
    for lock in (holder, *waiting):
        lock.release()


def test_a_former_holder_does_not_touch_the_lock(directory: Path, clock: Clock) -> None:
    """A former holder would make its successor look alive, which may be stalled in its turn."""
    holder, waiting = ShipLock(directory, "sluice"), ShipLock(directory, "sluice", clock)
    assert holder.acquire()
    assert takes_over(waiting, clock, STALLED_SECONDS + 6)
    os.utime(ship_lock(directory, "sluice"), (1, 1))
    holder.touch()
    assert ship_lock(directory, "sluice").stat().st_mtime == 1
    waiting.touch()
    assert ship_lock(directory, "sluice").stat().st_mtime > 1
    waiting.release()


def test_a_keepalive_stops_with_the_thread_that_ships(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipper that hangs would hold its lock for ever, and seem to work."""
    touches: list[bool] = []
    lock = ShipLock(directory, "sluice")
    monkeypatch.setattr(lock, "touch", lambda: touches.append(True))
    is_moving = threading.Event()
    keepalive = LockKeepalive(lock, is_moving.is_set, every=0.01)
    keepalive.start()
    assert not touches
    is_moving.set()
    wait_until(lambda: touches, message="it does not touch the lock")
    keepalive.stop()


def test_a_shipper_ships_without_a_keepalive(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a limit of threads, or as the interpreter ends, it would die with its lock, and nothing be delivered."""
    start, destination = threading.Thread.start, AcceptingDestination()

    def start_no_keepalive(thread: threading.Thread) -> None:
        if thread.name.endswith("-keepalive"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_no_keepalive)
    journal = JournalWriter(directory, 64_000_000)
    journal.append(event(1))
    shipper = Shipper(directory, "sluice", destination.connect, interval=0.02, max_lines=9, max_bytes=9_999)
    shipper.start()
    shipper.stop(5)
    journal.close()
    assert len(destination.read) == 1


class AcceptingDestination:
    """A destination that takes everything; `holds` makes its answer wait for `answers`."""

    def __init__(self, *, holds: bool = False) -> None:
        self.read: list[bytes] = []
        self.asked, self.answers = threading.Event(), threading.Event()
        self._holds = holds
        self._on_sending: Callable[[], None] = lambda: None

    def connect(self, on_sending: Callable[[], None]) -> AcceptingDestination:
        self._on_sending = on_sending
        return self

    def send(self, lines: list[bytes]) -> Verdict:
        self.asked.set()
        if self._holds:
            self.answers.wait(30)
        self._on_sending()
        self.read += lines
        return Settled(len(lines), 0, 0)

    def close(self) -> None:
        pass


def test_a_former_holder_sends_nothing_and_saves_nothing(directory: Path, clock: Clock) -> None:
    """It wakes in the middle of a batch: it would send the other's events again, and undo its accounts."""
    journal = JournalWriter(directory, 64_000_000)
    for number in range(3):
        journal.append(event(number))
    journal.close()
    slow, quick = AcceptingDestination(holds=True), AcceptingDestination()
    former = Shipper(directory, "sluice", slow.connect, interval=0.02, max_lines=2, max_bytes=9_999)
    former.start()
    slow.asked.wait(30)
    waiting = ShipLock(directory, "sluice", clock)
    assert takes_over(waiting, clock, STALLED_SECONDS + 6)
    waiting.release()  # the second shipper begins here: it would have to look for ten seconds
    later = Shipper(directory, "sluice", quick.connect, interval=0.02, max_lines=2, max_bytes=9_999)
    later.start()
    wait_until(lambda: figures(directory)["pending"] == 0)
    slow.answers.set()
    former.stop(0)
    former.join()
    assert slow.read == []
    assert len(quick.read) == 3
    stats = figures(directory)
    assert (stats["captured"], stats["delivered"]) == (3, 3)
    later.stop(5)


def test_a_cursor_that_a_former_holder_has_put_there_is_put_right(directory: Path) -> None:
    """It was stalled between its last check and the saving: the next process would start at its old offsets."""
    journal = JournalWriter(directory, 64_000_000)
    shipper = Shipper(directory, "sluice", AcceptingDestination().connect, interval=0, max_lines=9, max_bytes=9_999)
    shipper._step()
    stale = load_cursor(cursor_path(directory, "sluice"))
    journal.append(event(1))
    journal.close()
    shipper._step()
    while load_cursor(stale.path).counts.delivered:  # its record replaces the present one only if it has the number
        stale.save()
    shipper._step()
    assert load_cursor(stale.path).counts.delivered == 1
    shipper._lock.release()


def test_one_that_was_replaced_goes_on_where_the_other_was(directory: Path, clock: Clock) -> None:
    """The other's delivered events would be delivered again, and its counts be lost."""
    journal, destination = JournalWriter(directory, 64_000_000), AcceptingDestination()
    former = Shipper(directory, "sluice", destination.connect, interval=0, max_lines=9, max_bytes=9_999)
    former._step()
    waiting = ShipLock(directory, "sluice", clock)
    assert takes_over(waiting, clock, STALLED_SECONDS + 6)
    waiting.release()
    journal.append(event(1))
    journal.close()
    other = Shipper(directory, "sluice", destination.connect, interval=0, max_lines=9, max_bytes=9_999)
    other._step()
    other._lock.release()
    former._step()
    assert len(destination.read) == 1
    assert figures(directory)["delivered"] == 1
    former._lock.release()


def test_a_live_shipper_touches_its_lock(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not touch its lock loses it every ten seconds, however well it ships."""
    destination = AcceptingDestination(holds=True)
    shipper = Shipper(
        directory, "sluice", destination.connect, interval=0.02, max_lines=9, max_bytes=9_999, timing=Timing(touch=0.05)
    )
    journal = JournalWriter(directory, 64_000_000)
    journal.append(event(1))
    shipper.start()
    destination.asked.wait(30)
    long_ago = time.time() - 1_000
    os.utime(ship_lock(directory, "sluice"), (long_ago, long_ago))
    wait_until(
        lambda: ship_lock(directory, "sluice").stat().st_mtime > long_ago + 500,
        5,
        "it does not touch the lock as it waits",
    )
    destination.answers.set()
    shipper.stop(5)
    journal.close()
