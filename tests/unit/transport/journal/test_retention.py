"""Eviction when the directory is full, and its counts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice_agent.transport.journal.cursor import Cursor, cursor_path
from sluice_agent.transport.journal.directory import directory_bytes, journal_files
from sluice_agent.transport.journal.line import EVENTS, VITALS
from sluice_agent.transport.journal.retention import HIGH_WATER, ensure_room
from sluice_agent.transport.journal.writer import JournalWriter
from tests.unit.transport.lines import event, figures, write_file

LIMIT = 1_000_000


def fill(directory: Path, *lanes: str) -> list[str]:
    """Write files of 100 kB with ten events; return their names, the oldest first."""
    return [write_file(directory, *(event(n, filler=9_700) for n in range(10)), lane=lane) for lane in lanes]


def make_room(directory: Path) -> list[int]:
    """Make room, and return the numbers of evicted events."""
    evicted: list[int] = []
    assert ensure_room(directory, LIMIT, lambda losses: evicted.append(*losses.values()))
    return evicted


@pytest.fixture
def journal(directory: Path) -> Iterator[JournalWriter]:
    """A journal that this process writes."""
    journal = JournalWriter(directory, LIMIT)
    yield journal
    journal.close()


def test_nothing_goes_while_there_is_room(directory: Path) -> None:
    """Events that could have been kept through a longer outage must be kept."""
    names = fill(directory, *[EVENTS] * 8)
    assert make_room(directory) == []
    assert journal_files(directory) == names


def test_the_oldest_go_first_and_no_more_than_needed(directory: Path) -> None:
    """After an outage, what happened last is what a user looks at first."""
    names = fill(directory, *[EVENTS] * 10)
    assert make_room(directory) == [10, 10, 10]
    assert journal_files(directory) == names[3:]


def test_heartbeats_go_before_events(directory: Path) -> None:
    """Only the newest heartbeat matters: to lose a job's verdict for an old one would be a bad trade."""
    fill(directory, EVENTS, VITALS, EVENTS, EVENTS, VITALS, EVENTS, EVENTS, EVENTS, VITALS, EVENTS)
    make_room(directory)
    assert len(journal_files(directory, EVENTS)) == 7
    assert journal_files(directory, VITALS) == []


def test_only_what_was_not_delivered_is_counted(directory: Path) -> None:
    """A file that was half delivered costs its other half."""
    first, second, *_ = fill(directory, *[EVENTS] * 10)
    cursor = Cursor(cursor_path(directory, "sluice"))
    cursor.offsets = {first: (directory / first).stat().st_size, second: (directory / second).stat().st_size // 10 * 4}
    cursor.save()
    assert make_room(directory) == [6, 10]


def test_a_torn_end_and_what_was_lost_before_are_counted_too(directory: Path) -> None:
    """An event that was counted once must not vanish from the accounts."""
    loss = b'{"dropped":{"disk": 5}}'
    write_file(directory, loss, *(event(n, filler=29_000) for n in range(9)), torn=event(9)[:-1])
    fill(directory, *[EVENTS] * 7)
    before = figures(directory)["captured"]
    evicted = make_room(directory)
    assert evicted == [5 + 9 + 1]
    assert figures(directory)["captured"] + sum(evicted) == before


def test_what_is_being_written_stays(directory: Path, journal: JournalWriter) -> None:
    """A file that is removed under its writer takes all that is appended to it along."""
    for number in range(2):
        journal.append(event(number), VITALS)
    [live] = journal_files(directory)
    fill(directory, *[EVENTS] * 10)
    make_room(directory)
    assert live in journal_files(directory)


@pytest.mark.parametrize("lane", [EVENTS, VITALS])
def test_the_limit_holds_and_nothing_is_lost_silently(directory: Path, journal: JournalWriter, lane: str) -> None:
    """The endpoint is away for a day: the host's disk must not fill, and the accounts must show what is gone."""
    largest = 0
    for number in range(3_000):
        journal.append(event(number, filler=500), lane)
        if number % 20 == 0:
            largest = max(largest, directory_bytes(directory))
    journal.close()
    assert LIMIT // 2 < largest <= LIMIT
    stats = figures(directory)
    assert stats["captured"] == 3_000
    assert directory_bytes(directory) <= LIMIT
    waiting = sum((directory / name).read_bytes().count(b'"type"') for name in journal_files(directory))
    assert 500 < waiting < 2_500
    assert journal.unwritten == {}


def test_a_directory_that_is_full_of_live_files_takes_no_more(directory: Path) -> None:
    """More workers than the limit has room for: none of them may exceed it, and all count what they drop."""
    others = [JournalWriter(directory, LIMIT) for _ in range(50)]
    for other in others:
        other.append(event(0, filler=15_800))
    while not others[-1].unwritten:
        others.append(JournalWriter(directory, LIMIT))
        others[-1].append(event(0, filler=700))
    last = JournalWriter(directory, LIMIT)
    for number in range(100):
        last._refusing_until = 0.0  # as if a second had passed
        last.append(event(number, filler=1_000))
    assert directory_bytes(directory) <= LIMIT
    assert last.unwritten["journal_full"] == 100
    for journal in (*others, last):
        journal.close()


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_writers_that_fill_their_files_at_once_keep_the_limit(directory: Path, turns: int) -> None:
    """All children of a pool check, find room, and write: together they would fill the disk.

    All have checked before the first of them writes, in their first file or in a later one.
    """
    line = event(0, filler=100)
    writers = [JournalWriter(directory, LIMIT) for _ in range(64)]

    def fill_files() -> None:
        for writer in writers:
            while writer._segments[EVENTS].room > len(line):
                writer.append(line)

    for writer in writers:
        writer.append(line)
    for _ in range(turns):
        fill_files()
        for writer in writers:
            writer.append(line)  # the one that begins the next file
    while directory_bytes(directory) < LIMIT * HIGH_WATER - 20_000:  # of one that is gone
        write_file(directory, *[line] * 30)
    fill_files()
    assert LIMIT * HIGH_WATER - 20_000 < directory_bytes(directory) <= LIMIT
    for writer in writers:
        writer.close()


def test_one_writer_at_a_time_makes_room(directory: Path) -> None:
    """Thirty children that all notice the full directory must not evict a quarter of it thirty times."""
    fill(directory, *[EVENTS] * 10)
    nested: list[bool] = []

    def while_evicting(events: int) -> None:
        nested.append(ensure_room(directory, LIMIT, lambda _: nested.append(True)))

    ensure_room(directory, LIMIT, while_evicting)
    assert nested[0] is False
    assert len(journal_files(directory)) == 7
