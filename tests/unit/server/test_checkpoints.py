"""The log of SQLite's commits is moved into the file beside the writer, so that no client waits for it."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sluice_agent.server.store.checkpoints import Checkpoints
from sluice_agent.server.store.database import connect_file
from tests.support.waiting import wait_until

_MANY = 25_000  # rows: enough for the log to be moved


def test_what_was_committed_comes_into_the_file_though_no_commit_waits_for_it(tmp_path: Path) -> None:
    with _writer(tmp_path) as (writer, checkpoints):
        _commit(writer, _MANY)
        checkpoints.after_commit()
        wait_until(lambda: _rows_in_the_file_alone(tmp_path) == _MANY)


def test_the_log_does_not_grow_while_the_writer_goes_on(tmp_path: Path) -> None:
    sizes: list[int] = []
    with _writer(tmp_path) as (writer, checkpoints):

        def is_all_moved() -> bool:
            checkpoints.after_commit()
            return _rows_in_the_file_alone(tmp_path) == _rows(writer)

        for _ in range(12):
            _commit(writer, _MANY)
            checkpoints.after_commit()
            wait_until(lambda: _rows_in_the_file_alone(tmp_path) == _rows(writer))
            _commit(writer, 10)  # what the thread has not seen
            wait_until(is_all_moved)
            sizes.append((tmp_path / "a.db-wal").stat().st_size)
    assert sizes[-1] < 4 * sizes[0]


def test_a_log_that_cannot_be_moved_fails_no_commit(tmp_path: Path) -> None:
    with _writer(tmp_path) as (writer, _), closing(connect_file(tmp_path / "a.db")) as unusable:
        checkpoints = Checkpoints(writer, unusable)
        unusable.close()
        for _ in range(3):
            _commit(writer, _MANY)
            checkpoints.after_commit()
        checkpoints.close()
        assert _rows(writer) == 3 * _MANY


@contextmanager
def _writer(directory: Path) -> Iterator[tuple[sqlite3.Connection, Checkpoints]]:
    with closing(connect_file(directory / "a.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("CREATE TABLE row (number INTEGER PRIMARY KEY, text TEXT)")
        checkpoints = Checkpoints(writer, connect_file(directory / "a.db"))
        try:
            yield writer, checkpoints
        finally:
            checkpoints.close()


def _commit(writer: sqlite3.Connection, count: int) -> None:
    writer.execute("BEGIN IMMEDIATE")
    writer.executemany("INSERT INTO row (text) VALUES (?)", [("text",)] * count)
    writer.execute("COMMIT")


def _rows(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM row").fetchone()[0])


def _rows_in_the_file_alone(directory: Path) -> int:
    """Return the rows in a copy of the file without its log; 0 while the file is being written."""
    copy = directory / "copy" / "a.db"
    shutil.rmtree(copy.parent, ignore_errors=True)
    copy.parent.mkdir()
    shutil.copy(directory / "a.db", copy)
    with closing(sqlite3.connect(copy)) as connection:
        try:
            return _rows(connection)
        except sqlite3.DatabaseError:
            return 0
