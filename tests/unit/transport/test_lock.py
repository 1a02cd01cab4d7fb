"""One shipper to a folder, elected by the kernel."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluice_agent.transport.lock import ShipLock, ship_lock, who_ships
from tests.support.process import ROOT

HOLD = """
import sys
from pathlib import Path
from sluice_agent.transport.lock import ShipLock
lock = ShipLock(Path(sys.argv[1]), "sluice")
print(lock.acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def another(folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """`another()`: a process that has tried to take the folder's lock, and lives."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdin=-1, stdout=-1, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline() == "True\n"


def test_one_process_ships_and_the_next_takes_over_when_it_is_killed(
    folder: Path, another: Callable[[], subprocess.Popen[str]]
) -> None:
    """Two shippers would send everything twice; none after a kill -9 would send nothing."""
    first = another()
    assert said(first)
    lock = ShipLock(folder, "sluice")
    assert not lock.acquire()
    assert who_ships(folder, "sluice") == {"pid": first.pid, "hostname": socket.gethostname()}
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert who_ships(folder, "sluice") is None
    assert lock.acquire()
    assert not said(another())
    lock.release()
    assert said(another())


def test_a_lock_that_is_held_is_kept(folder: Path) -> None:
    """The shipper asks at every turn: asking must not let another one in."""
    lock, other = ShipLock(folder, "sluice"), ShipLock(folder, "sluice")
    assert lock.acquire()
    assert lock.acquire()
    assert not other.acquire()
    lock.release()
    assert other.acquire()
    other.release()


def test_a_child_that_lets_go_does_not_let_go_for_its_parent(folder: Path) -> None:
    """Every forked child of a web server lets go of what it inherited: the parent must go on shipping."""
    lock = ShipLock(folder, "sluice")
    assert lock.acquire()
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert not ShipLock(folder, "sluice").acquire()
    lock.release()


def test_a_folder_that_was_removed_has_a_new_lock(folder: Path) -> None:
    """Who holds the lock of a file that is gone holds nothing: another process may ship the new folder."""
    lock, other = ShipLock(folder, "sluice"), ShipLock(folder, "sluice")
    assert lock.acquire()
    shutil.rmtree(folder)
    folder.mkdir()
    assert other.acquire()
    assert not lock.acquire()
    other.release()
    assert lock.acquire()
    lock.release()


def test_nobody_ships_where_there_is_no_lock(folder: Path) -> None:
    """`sluice-agent status` on a fresh host must answer, not fail."""
    assert who_ships(folder, "sluice") is None
    assert who_ships(folder / "missing", "sluice") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]"])
def test_a_holder_that_has_not_signed_is_a_holder(folder: Path, content: bytes) -> None:
    """Between taking the lock and signing it, somebody does ship."""
    lock = ShipLock(folder, "sluice")
    assert lock.acquire()
    ship_lock(folder, "sluice").write_bytes(content)
    assert who_ships(folder, "sluice") == {}
    lock.release()
