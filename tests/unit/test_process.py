"""The agent's state in one process: a forked child and another user share none of it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from uuid import UUID

import pytest

from sluice_agent.process import Process
from sluice_agent.settings import Settings
from sluice_agent.transport.journal.directory import journal_files
from sluice_agent.transport.journal.line import EVENTS
from sluice_agent.transport.journal.reader import Reader
from sluice_agent.transport.journal.ship_lock import ShipLock, current_shipper
from tests.support.process import in_a_child
from tests.unit.transport.lines import CONNECTION, event, figures

NOBODY = 65_534


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """The state of a process that writes a journal, and ships nothing."""
    return Process(Settings(connection_id=UUID(CONNECTION), state_dir=tmp_path, ship="never"))


def append(process: Process, number: int) -> None:
    assert process.journal is not None
    process.journal.append(event(number), EVENTS)


def test_no_directory_is_made_before_the_first_write(process: Process, tmp_path: Path) -> None:
    """A process that loads the application as root, and ends or drops its privileges, would lock the user out."""
    assert process.opened_journal is None
    assert list(tmp_path.iterdir()) == []
    append(process, 1)
    assert [path.name for path in tmp_path.iterdir()] == [CONNECTION]


def test_a_child_writes_its_own_segment_and_counts_nothing_twice(process: Process, tmp_path: Path) -> None:
    """Two processes that write one file tear its lines; a loss of the parent's would be counted by each child."""
    append(process, 1)
    assert process.journal is not None
    process.journal.unwritten["disk"] = 5
    held = threading.Event()
    lock = process.journal._lock

    def hold() -> None:
        with lock:
            held.set()
            over.wait(30)

    over = threading.Event()
    threading.Thread(target=hold).start()  # a thread that the child does not have: there the lock is never released
    held.wait(30)

    def child() -> None:
        assert not process.is_current()
        successor = process.successor()
        assert successor.is_current()
        assert successor.is_forked
        append(successor, 2)
        assert successor.opened_journal is not None
        successor.opened_journal.close()

    assert in_a_child(child) == 0
    over.set()
    assert process.is_current()
    assert len(journal_files(tmp_path / CONNECTION)) == 2
    assert figures(tmp_path / CONNECTION)["captured"] == 2


@pytest.mark.parametrize("opened", [0, 64])
def test_a_child_that_has_closed_its_copies_closes_nothing_else(process: Process, opened: int) -> None:
    """A daemon that forks and closes all in C would lose one of its sockets to us, or its first event to EBADF."""
    append(process, 1)
    assert process.journal is not None
    directory = process.journal.directory
    lock = ShipLock(directory, "sluice")
    assert lock.acquire()
    batch = Reader(directory).next_batch({}, 9, 9_999)

    def child() -> None:
        os.closerange(3, 256)
        own = [os.open(os.devnull, os.O_RDONLY) for _ in range(opened)]
        lock.release()
        batch.release()
        process.successor()
        assert all(os.path.samestat(os.fstat(descriptor), Path(os.devnull).stat()) for descriptor in own)

    assert in_a_child(child) == 0
    assert lock.is_held()
    lock.release()


def test_a_process_without_threads_leaves_the_lock_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a limit of threads each process would raise as it captures and as it ends, and ship nothing for its life."""
    process = Process(Settings(connection_id=UUID(CONNECTION), state_dir=tmp_path, api_key="sk_field"))
    append(process, 1)
    assert process.journal is not None
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", no_thread)
        process.start_shippers()
    assert process.shippers is None
    assert current_shipper(process.journal.directory, "sluice") is None
    process._retry_at = 0.0
    process.start_shippers()
    assert process.shippers is not None
    process.shippers.stop(0)


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_concurrent_threads_get_one_state(process: Process) -> None:
    """Otherwise each of them would open its own files, and start its own shipping threads."""
    append(process, 1)

    def child() -> None:
        states: list[Process] = []
        barrier = threading.Barrier(8)

        def get_successor() -> None:
            barrier.wait()
            states.append(process.successor())

        threads = [threading.Thread(target=get_successor) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(states) == 8
        assert len({id(state) for state in states}) == 1

    assert in_a_child(child) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_drops_of_one_user_are_counted_by_the_next(process: Process) -> None:
    """The drops of a full disk before the change of user would be counted nowhere."""

    def child() -> None:
        successor = process.successor()
        assert successor.journal is not None
        successor.journal.unwritten["disk"] = 2
        os.setuid(NOBODY)
        assert not successor.is_current()
        assert successor.successor().unjournaled.dropped == {"disk": 2}

    assert in_a_child(child) == 0
