"""The writing side: an appended event is written, whole, after any failure, or it is counted."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.transport.journal import writer
from sluice_agent.transport.journal.directory import journal_files
from sluice_agent.transport.journal.line import EVENTS, VITALS
from sluice_agent.transport.journal.reader import Reader, finished
from sluice_agent.transport.journal.segment import Intervals, SegmentWriter
from sluice_agent.transport.journal.writer import JournalWriter
from tests.support.process import in_a_child
from tests.support.waiting import wait_until
from tests.unit.transport.lines import event, figures, numbers_in

LIMIT = 64_000_000
_MAX_APPENDS = 100_000  # 25 MB, of which nothing is evicted


def written(directory: Path) -> list[int]:
    """The numbers of all events in the journal. A batch holds those of a limited number of files."""
    numbers: list[int] = []
    offsets: dict[str, int] = {}
    reader = Reader(directory)
    while (batch := reader.next_batch(offsets, 1_000_000, 1_000_000_000)) or batch.is_full:
        numbers += numbers_in(batch.lines)
        offsets |= batch.offsets
        batch.release()
    return numbers


def is_live(path: Path) -> bool:
    with finished(path) as size:
        return size is None


@pytest.fixture
def journal(directory: Path) -> Iterator[JournalWriter]:
    """A journal that this process writes."""
    journal = JournalWriter(directory, LIMIT)
    yield journal
    journal.close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    if os.geteuid() != 0:
        pytest.skip("a small tmpfs can only be mounted by root")
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", mount_point],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"tmpfs can't be mounted here: {mounted.stderr.strip()}")
    yield mount_point
    subprocess.run(["umount", mount_point], check=True)


def test_lines_are_there_at_once_and_in_order(journal: JournalWriter, directory: Path) -> None:
    """A worker that is killed right after a task ended must have recorded the end."""
    for number in range(100):
        journal.append(event(number))
    assert written(directory) == list(range(100))


def test_each_lane_has_files_of_its_own(journal: JournalWriter, directory: Path) -> None:
    """Heartbeats in the events' files could not be given up before them."""
    journal.append(event(0))
    journal.append(event(1), VITALS)
    assert [len(journal_files(directory, lane)) for lane in (EVENTS, VITALS)] == [1, 1]


def test_files_are_private(journal: JournalWriter, directory: Path) -> None:
    """Errors and arguments of tasks are private on a shared host."""
    journal.append(event(0))
    assert [(directory / name).stat().st_mode & 0o777 for name in journal_files(directory)] == [0o600]


def test_a_large_file_is_finished_and_another_begun(directory: Path) -> None:
    """Without rotation, no delivered event would ever be removed while the worker lives."""
    journal = JournalWriter(directory, 1_000_000)
    for number in range(300):
        journal.append(event(number, filler=200))
    *done, current = journal_files(directory)
    assert len(done) >= 5
    assert [is_live(directory / name) for name in (*done, current)] == [False] * len(done) + [True]
    assert max((directory / name).stat().st_size for name in done) < 17_000
    assert written(directory) == list(range(300))
    journal.close()


def test_an_old_file_is_finished(directory: Path) -> None:
    """A worker with few events would otherwise keep delivered ones for as long as it lives."""
    journal = JournalWriter(directory, LIMIT, Intervals(max_age=0.0, check=0.0))
    journal.append(event(0))
    journal.append(event(1))
    assert len(journal_files(directory)) == 2


def test_close_finishes_the_files_and_append_begins_new_ones(journal: JournalWriter, directory: Path) -> None:
    """An event after the shutdown, of another atexit hook for instance, must be recorded all the same."""
    journal.append(event(0))
    journal.close()
    assert [is_live(directory / name) for name in journal_files(directory)] == [False]
    journal.append(event(1))
    assert written(directory) == [0, 1]


def test_a_forked_child_writes_to_a_file_of_its_own(journal: JournalWriter, directory: Path) -> None:
    """Two writers of one file would tear each other's lines when it is cut back."""
    journal.append(event(0))

    def child() -> None:
        journal.forget()
        journal.append(event(1))

    assert in_a_child(child) == 0
    journal.append(event(2))
    assert sorted(written(directory)) == [0, 1, 2]
    assert len(journal_files(directory)) == 2


def test_a_child_that_ends_does_not_unlock_its_parents_file(journal: JournalWriter, directory: Path) -> None:
    """The parent's file would be taken for finished and removed, and all that is appended to it lost."""
    journal.append(event(0))
    [name] = journal_files(directory)
    assert in_a_child(journal.forget) == 0
    assert in_a_child(journal.close) == 0
    assert is_live(directory / name)


def test_a_child_that_lives_does_not_keep_its_parents_file(journal: JournalWriter, directory: Path) -> None:
    """A finished file that seems live is never removed: the directory would fill."""
    journal.append(event(0))
    [name] = journal_files(directory)
    ready_reader, ready_writer = os.pipe()
    child = os.fork()
    if child == 0:
        journal.forget()
        os.write(ready_writer, b".")
        signal.pause()
    try:
        os.read(ready_reader, 1)
        journal.close()
        assert not is_live(directory / name)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready_reader)
        os.close(ready_writer)


def test_a_child_is_forked_while_another_thread_appends(journal: JournalWriter, directory: Path) -> None:
    """A lock that is held at the fork would stop the child's first task for ever."""
    stopped = threading.Event()

    def keep_on() -> None:
        for _ in range(_MAX_APPENDS):
            if stopped.is_set():
                break
            journal.append(event(0))

    def child() -> None:
        signal.alarm(10)
        journal.forget()
        journal.append(event(1))

    thread = threading.Thread(target=keep_on)
    thread.start()
    try:
        assert [in_a_child(child) for _ in range(20)] == [0] * 20
    finally:
        stopped.set()
        thread.join()
    assert written(directory).count(1) == 20


def test_a_childs_counts_are_not_its_parents(journal: JournalWriter, directory: Path) -> None:
    """A loss that the parent could not write down yet would be counted once more by every child."""
    journal.unwritten["journal_full"] = 5

    def child() -> None:
        journal.forget()
        journal.append(event(1))

    assert in_a_child(child) == 0
    assert figures(directory)["captured"] == 1


def test_threads_do_not_tear_each_others_lines(journal: JournalWriter, directory: Path) -> None:
    """A pool of threads appends at once: a torn line is two lost events."""
    threads = [
        threading.Thread(target=lambda at: [journal.append(event(at + n, filler=n)) for n in range(100)], args=(start,))
        for start in range(0, 800, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written(directory)) == list(range(800))


def test_an_append_in_the_middle_of_an_append_is_no_deadlock(
    journal: JournalWriter, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal handler of the host that publishes a task must not stop the worker."""
    journal.append(event(0))
    real = writer.write

    def interrupted(descriptor: int, content: bytes) -> int:
        patch.undo()
        journal.append(event(1))
        return real(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write", interrupted)
        journal.append(event(2))
    assert sorted(written(directory)) == [0, 1, 2]


def test_drops_that_could_not_be_written_precede_the_next_event(journal: JournalWriter, directory: Path) -> None:
    """A process that dies a moment later would take the count of what it dropped with it."""
    journal.append(event(0))
    journal.unwritten["disk"] = 2
    journal.append(event(1))
    assert not journal.unwritten
    batch = Reader(directory).next_batch({}, 500, 1_000_000)
    batch.release()
    assert batch.dropped == {"disk": 2}


def test_a_drop_is_written_down(journal: JournalWriter, directory: Path) -> None:
    """Events that `before_send` drops are part of the accounts that another process reads."""
    journal.drop("before_send")
    journal.drop("before_send")
    batch = Reader(directory).next_batch({}, 500, 1_000_000)
    batch.release()
    assert (batch.lines, batch.dropped) == ([], {"before_send": 2})


def test_a_directory_that_is_removed_comes_back(directory: Path) -> None:
    """A user cleans up the temporary directory: the worker goes on, and counts what is gone."""
    journal = JournalWriter(directory, LIMIT, Intervals(check=60.0))
    journal.append(event(0))
    journal.append(event(1))
    shutil.rmtree(directory)
    journal._segments[EVENTS].due_at = 0.0  # a minute has passed
    journal.append(event(2))
    journal.append(event(3))
    assert written(directory) == [2, 3]
    assert figures(directory)["captured"] == 4


def test_a_full_disk_is_survived_and_counted(tiny_disk: Path) -> None:
    """The host's disk is full: its tasks go on, no line is torn, and every event that is missing is counted."""
    journal = JournalWriter(tiny_disk, LIMIT, Intervals(retry=0.0))
    filler = tiny_disk / "filler"
    filler.write_bytes(b"x" * 40_000)
    for number in range(200):
        journal.append(event(number, filler=500))
    kept = written(tiny_disk)
    assert 0 < len(kept) < 200
    assert kept == list(range(len(kept)))
    assert journal.unwritten == {"disk": 200 - len(kept)}
    assert len(journal_files(tiny_disk)) <= 2, "a full disk must not be filled with empty files"

    filler.unlink()
    captured = itertools.count(200)
    wait_until(lambda: journal.append(event(next(captured))) or not journal.unwritten)
    journal.close()
    assert figures(tiny_disk)["captured"] == next(captured)


def test_a_full_disk_costs_the_host_next_to_nothing(tiny_disk: Path) -> None:
    """A disk stays full for hours: an event that is dropped must cost less than one that is written."""
    journal = JournalWriter(tiny_disk, LIMIT)
    (tiny_disk / "filler").write_bytes(b"x" * 65_000)
    line = event(0, filler=8_000)
    journal.append(line)
    began = time.process_time()
    for _ in range(2_000):
        journal.append(line)
    assert time.process_time() - began < 0.2
    assert journal.unwritten.total() == 2_001


def test_a_short_write_leaves_no_torn_line(
    journal: JournalWriter, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up within a line: its beginning is taken back, so that the next line is not lost with it."""
    journal.append(event(0))
    real = os.write
    with monkeypatch.context() as patch:
        for module in (os, writer):
            patch.setattr(module, "write", lambda descriptor, line: real(descriptor, line[: len(line) // 2]))
        journal.append(event(1))
    assert journal.unwritten == {"disk": 1}
    assert b"".join((directory / name).read_bytes() for name in journal_files(directory)) == event(0) + b"\n"


def test_nothing_is_raised_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A volume that goes away must not take the worker with it."""
    (tmp_path / "file").touch()
    journal = JournalWriter(tmp_path / "file" / "folder", LIMIT)
    journal.append(event(0))
    journal.drop("before_send")
    journal.close()
    assert journal.unwritten == {"disk": 1, "before_send": 1}


def test_a_drop_line_is_readable(journal: JournalWriter, directory: Path) -> None:
    """A user who reads the journal must see how many events were dropped, and why."""
    journal.drop("before_send")
    [name] = journal_files(directory)
    assert json.loads((directory / name).read_bytes()) == {"dropped": {"before_send": 1}}


def test_events_together_are_counted_one_by_one(
    journal: JournalWriter, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one message brings is one write: where that fails, each of its events must still be counted."""
    journal.append_all([event(0), event(1)])
    journal.append_all([event(2), event(3, filler=50), event(4)])
    assert written(directory) == list(range(5))
    with monkeypatch.context() as patch:
        patch.setattr(SegmentWriter, "write", no_space_left)
        journal.append_all([event(5), event(6)])
    assert journal.unwritten == {"disk": 2}


def no_space_left(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "on purpose")
