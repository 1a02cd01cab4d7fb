"""One shipper a directory, elected by the kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluice_agent.errors import JournalUnavailableError
from sluice_agent.transport.journal.directory import open_directory
from sluice_agent.transport.journal.ship_lock import ShipLock, current_shipper, seconds_since_touch, ship_lock
from tests.support.process import ROOT
from tests.unit.transport.lines import close_all

TAKE_LOCK = """
import sys
from pathlib import Path
from sluice_agent.transport.journal.ship_lock import ShipLock
lock = ShipLock(Path(sys.argv[1]), "sluice")
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def lock_process(directory: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """`lock_process()`: a process that has tried to take the directory's lock, and lives."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE_LOCK, str(directory)], cwd=ROOT, stdin=-1, stdout=-1, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def acquired(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "True\n"


def test_one_process_ships_and_the_next_takes_over_when_it_is_killed(
    directory: Path, lock_process: Callable[[], subprocess.Popen[str]]
) -> None:
    """Two shippers would send everything twice; none after a kill -9 would send nothing."""
    first = lock_process()
    assert acquired(first)
    lock = ShipLock(directory, "sluice")
    assert not lock.acquire()
    assert current_shipper(directory, "sluice") == {"pid": first.pid, "hostname": socket.gethostname()}
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert current_shipper(directory, "sluice") is None
    assert lock.acquire()
    assert not acquired(lock_process())
    lock.release()
    assert acquired(lock_process())


def test_a_lock_that_is_held_is_kept(directory: Path) -> None:
    """The shipper acquires the lock at every step: that must not let another process in."""
    lock, other = ShipLock(directory, "sluice"), ShipLock(directory, "sluice")
    assert lock.acquire()
    assert lock.acquire()
    assert not other.acquire()
    lock.release()
    assert other.acquire()
    other.release()


def test_a_child_that_releases_does_not_release_for_its_parent(directory: Path) -> None:
    """Every forked child of a web server closes what it inherited: the parent must go on shipping."""
    lock = ShipLock(directory, "sluice")
    assert lock.acquire()
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert not ShipLock(directory, "sluice").acquire()
    lock.release()


def test_a_directory_that_was_removed_has_a_new_lock(directory: Path) -> None:
    """The lock of a removed file protects nothing: another process may ship the new directory."""
    lock, other = ShipLock(directory, "sluice"), ShipLock(directory, "sluice")
    assert lock.acquire()
    shutil.rmtree(directory)
    directory.mkdir()
    assert other.acquire()
    assert not lock.acquire()
    other.release()
    assert lock.acquire()
    lock.release()


def test_no_process_ships_without_a_lock(directory: Path) -> None:
    """`sluice-agent status` on a fresh host must answer, not fail."""
    assert current_shipper(directory, "sluice") is None
    assert current_shipper(directory / "missing", "sluice") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]"])
def test_a_holder_without_a_pid_is_a_holder(directory: Path, content: bytes) -> None:
    """Between taking the lock and writing its pid, the process does ship."""
    lock = ShipLock(directory, "sluice")
    assert lock.acquire()
    ship_lock(directory, "sluice").write_bytes(content)
    assert current_shipper(directory, "sluice") == {}
    lock.release()


def test_a_process_with_priority_requests_and_gets_the_lock(directory: Path) -> None:
    """A script that runs for a day would keep the lock of a worker, and take it along when it ends."""
    script, worker, another_worker = (ShipLock(directory, "sluice") for _ in range(3))
    worker.has_priority = another_worker.has_priority = True
    assert script.acquire()
    assert not script.is_wanted()
    assert not worker.acquire()
    assert script.is_wanted()
    script.release()
    assert worker.acquire()
    assert not another_worker.acquire()
    assert not worker.is_wanted()  # a process with priority yields to none
    assert script.is_wanted()
    another_worker.release()
    assert not script.is_wanted()
    worker.release()


def test_a_request_ends_with_its_process(directory: Path) -> None:
    """A worker that was killed while it waited would make the others yield for ever."""
    lock = ShipLock(directory, "sluice")
    assert lock.acquire()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        lock.release()
        asking = ShipLock(directory, "sluice")
        asking.has_priority = True
        asking.acquire()
        os.write(writer, b".")
        signal.pause()
    os.read(reader, 1)
    assert lock.is_wanted()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not lock.is_wanted()
    lock.release()
    close_all(reader, writer)


def test_a_shipping_process_touches_its_lock(directory: Path) -> None:
    """A process that was stopped holds its lock: no one would notice that nothing is shipped."""
    lock = ShipLock(directory, "sluice")
    assert seconds_since_touch(directory, "sluice") == 0
    assert lock.acquire()
    long_ago = time.time() - 1_000
    os.utime(ship_lock(directory, "sluice"), (long_ago, long_ago))
    assert seconds_since_touch(directory, "sluice") == pytest.approx(1_000, abs=5)
    lock.touch()
    assert seconds_since_touch(directory, "sluice") < 5
    lock.release()


def test_a_file_system_without_locks_is_reported(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On some network file systems no process would ship, and no one would know why."""
    lock = ShipLock(directory, "sluice")
    assert lock.acquire()
    lock.release()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        with pytest.raises(OSError, match="needs flock"):
            lock.acquire()
    assert current_shipper(directory, "sluice") is None
    with pytest.raises(JournalUnavailableError, match="needs flock"):
        open_directory(directory, "journal")
    assert not list((directory / "journal").iterdir())
    monkeypatch.undo()
    assert lock.acquire()
    lock.release()
