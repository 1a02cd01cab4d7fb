"""What the agent has in one process: a child that was forked, by whatever means, and another user have none of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from sluice_agent.process import Process
from sluice_agent.settings import Settings
from sluice_agent.transport.directory import EVENTS, journal_files
from sluice_agent.transport.lock import ShipLock, current_shipper
from sluice_agent.transport.reader import next_batch
from tests.unit.transport.lines import CONNECTION, event, figures

NOBODY = 65_534


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """The state of a process that writes a journal, and ships nothing."""
    return Process(Settings(connection_id=UUID(CONNECTION), state_dir=tmp_path, ship="never"))


def in_a_child(do: Callable[[], None]) -> int:
    """`do()` in a child that runs no hook of ours; its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            do()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def append(process: Process, number: int) -> None:
    assert process.journal is not None
    process.journal.append(event(number), EVENTS)


def test_no_folder_is_made_before_somebody_writes(process: Process, tmp_path: Path) -> None:
    """A process that loads the application as root, and ends or drops its privileges, would lock the user out."""
    assert process.opened_journal is None
    assert list(tmp_path.iterdir()) == []
    append(process, 1)
    assert [place.name for place in tmp_path.iterdir()] == [CONNECTION]


def test_a_child_writes_a_file_of_its_own_and_counts_nothing_twice(process: Process, tmp_path: Path) -> None:
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
    threading.Thread(target=hold).start()  # a thread that the child does not have, and that will not let go there
    held.wait(30)

    def child() -> None:
        assert not process.is_current()
        mine = process.successor()
        assert mine.is_current()
        assert mine.is_forked
        append(mine, 2)
        assert mine.opened_journal is not None
        mine.opened_journal.close()

    assert in_a_child(child) == 0
    over.set()
    assert process.is_current()
    assert len(journal_files(tmp_path / CONNECTION)) == 2
    assert figures(tmp_path / CONNECTION)["captured"] == 2


@pytest.mark.parametrize("opened", [0, 64])
def test_a_child_that_has_closed_its_copies_closes_nothing_else(process: Process, opened: int) -> None:
    """A daemon that forks and closes all in C would lose a socket of its own to us, or its first event to EBADF."""
    append(process, 1)
    assert process.journal is not None
    directory = process.journal.directory
    lock = ShipLock(directory, "sluice")
    assert lock.acquire()
    batch = next_batch(directory, {}, 9, 9_999)

    def child() -> None:
        os.closerange(3, 256)
        own = [os.open(os.devnull, os.O_RDONLY) for _ in range(opened)]
        lock.release()
        batch.release()
        process.successor()
        assert all(os.path.samestat(os.fstat(each), Path(os.devnull).stat()) for each in own)

    assert in_a_child(child) == 0
    assert lock.is_held()
    lock.release()


def test_where_no_thread_can_be_started_the_lock_is_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a limit of threads each process would raise as it captures and as it ends, and ship nothing for its life."""
    process = Process(Settings(connection_id=UUID(CONNECTION), state_dir=tmp_path, api_key=SecretStr("sk_field")))
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


def test_threads_that_ask_at_once_are_given_one_state(process: Process) -> None:
    """Each would begin files, and threads that ship, of its own."""
    append(process, 1)

    def child() -> None:
        found: list[Process] = []
        together = threading.Barrier(8)

        def ask() -> None:
            together.wait()
            found.append(process.successor())

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert len({id(one) for one in found}) == 1

    assert in_a_child(child) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_one_user_lost_is_counted_by_the_next(process: Process) -> None:
    """What a full disk cost before the privileges were dropped would be in nobody's accounts."""

    def child() -> None:
        mine = process.successor()
        assert mine.journal is not None
        mine.journal.unwritten["disk"] = 2
        os.setuid(NOBODY)
        assert not mine.is_current()
        assert mine.successor().unjournaled.dropped == {"disk": 2}

    assert in_a_child(child) == 0
