"""The reading side: exactly the events come out, everything else is counted, and reading always comes to an end."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_agent.transport.journal.line import VITALS
from sluice_agent.transport.journal.line_selector import ALL
from sluice_agent.transport.journal.reader import Batch, Reader, count_beyond, finished
from sluice_agent.transport.journal.retention import ensure_room
from sluice_agent.transport.journal.writer import JournalWriter
from tests.support.examples import examples
from tests.unit.transport.lines import event, numbers_in, write_file

MANY = 10_000


def batches(directory: Path, max_lines: int = MANY, max_bytes: int = 10_000_000) -> Iterator[Batch]:
    """Every batch until the end, as a shipper whose endpoint takes everything reads them."""
    offsets: dict[str, int] = {}
    reader = Reader(directory)
    while (batch := reader.next_batch(offsets, max_lines, max_bytes)) or batch.is_full:
        batch.release()
        assert all(offsets.get(name, 0) < offset for name, offset in batch.offsets.items()), "the cursor stands still"
        offsets.update(batch.offsets)
        if batch:
            yield batch


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def read(directory: Path) -> tuple[list[int], Counter[str]]:
    numbers, dropped = [], Counter[str]()
    for batch in batches(directory):
        numbers += numbers_in(batch.lines)
        dropped += batch.dropped
    return numbers, dropped


def test_files_are_read_from_the_oldest_to_the_newest(directory: Path) -> None:
    """Events that are delivered out of order are shown out of order for as long as the backlog lasts."""
    for first in (0, 2, 4):
        write_file(directory, event(first), event(first + 1))
    assert read(directory) == (list(range(6)), {})


def test_a_batch_has_at_most_so_many_lines(directory: Path) -> None:
    """SLUICE_BATCH_SIZE is what the user's endpoint takes."""
    write_file(directory, *map(event, range(5)))
    write_file(directory, *map(event, range(5, 8)))
    assert [numbers_in(batch.lines) for batch in batches(directory, 3)] == [[0, 1, 2], [3, 4, 5], [6, 7]]


@given(
    lines=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    max_lines=st.integers(1, 4),
    appended=st.dictionaries(st.integers(0, 8), st.integers(0, 5), max_size=4),
)
@settings(max_examples=examples(50), deadline=None)
def test_what_is_written_between_two_batches_is_read(
    lines: list[int], max_lines: int, appended: dict[int, int]
) -> None:
    """A worker goes on while its backlog is delivered: nothing that it adds may be passed over, or sent twice."""
    with tempfile.TemporaryDirectory() as path:
        directory, numbers, read_numbers = Path(path), count(), list[int]()
        names = [write_file(directory, *(event(next(numbers)) for _ in range(events))) for events in lines]
        reader, offsets = Reader(directory), dict[str, int]()
        for turn in count():
            if turn in appended:
                with (directory / names[appended[turn] % len(names)]).open("ab") as file:
                    file.write(event(next(numbers)) + b"\n")
            batch = reader.next_batch(offsets, max_lines, MANY)
            batch.release()
            offsets |= batch.offsets
            read_numbers += numbers_in(batch.lines)
            if not batch.is_full and turn >= max(appended, default=0):  # where a shipper that ends stops, too
                break
        assert sorted(read_numbers) == list(range(next(numbers)))


def test_another_lane_is_read_at_once(directory: Path) -> None:
    """When the day's budget is spent, only heartbeats are read: events would be sent beyond the limit."""
    write_file(directory, event(0), event(1))
    write_file(directory, event(2))
    write_file(directory, event(3), lane=VITALS)
    reader, offsets = Reader(directory), dict[str, int]()
    for selector, numbers in ((ALL, [0]), (ALL.in_lane(VITALS), [3]), (ALL, [1])):
        batch = reader.next_batch(offsets, 1, MANY, selector)
        batch.release()
        offsets |= batch.offsets
        assert numbers_in(batch.lines) == numbers


def test_a_batch_has_at_most_so_many_bytes(directory: Path) -> None:
    """SLUICE_BATCH_BYTES is what the user's endpoint takes; an event that is larger than that goes alone."""
    lines = [event(0), event(1), event(2, filler=5_000), event(3)]
    write_file(directory, *lines)
    limit = len(lines[0]) * 3
    assert [numbers_in(batch.lines) for batch in batches(directory, MANY, limit)] == [[0, 1], [2], [3]]


def test_a_batch_holds_open_few_files(directory: Path) -> None:
    """With a process for each task there is a file for each event: the host's descriptors must not run out."""
    for number in range(500):
        write_file(directory, event(number))
    before = open_descriptors()
    batch = Reader(directory).next_batch({}, 500, 1_000_000)
    counts = open_descriptors() - before
    batch.release()
    assert counts <= 100
    assert open_descriptors() == before
    assert read(directory) == (list(range(500)), {})


@pytest.mark.parametrize("torn", [b'{"type":"job_state', b"\0" * 4096, b"x", event(9), event(9)[:-1]])
def test_the_torn_end_of_a_dead_writer_is_counted_once(directory: Path, torn: bytes) -> None:
    """A process that was killed in the middle of a line costs that line, which is counted."""
    name = write_file(directory, event(0), torn=torn)
    write_file(directory, event(1))
    assert count_beyond(directory / name, 0) == 2
    assert read(directory) == ([0, 1], {"corrupt": 1})


def test_the_torn_end_of_a_live_writer_is_waited_for(directory: Path) -> None:
    """A line that is being written must be sent when it is whole, not skipped."""
    journal = JournalWriter(directory, 64_000_000)
    journal.append(event(0))
    [path] = directory.glob("*.ndjson")
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(event(1)[:20])
    assert read(directory) == ([0], {})
    path.write_bytes(whole)
    journal.append(event(2))
    assert read(directory) == ([0, 2], {})
    journal.close()


@pytest.mark.parametrize(
    "rubbish",
    [b" ", b"", b"rubbish", b"\0" * 300_000, b'{"type":"x"', b"[]", b"\xff\xfe", b"null"]
    + [b'{"dropped":{"disk":%s}}' % count for count in (b'"b"', b'"3"', b"-3", b"1.5", b"true", b"1e3", b"9" * 20)],
)
def test_a_line_of_rubbish_is_counted_and_passed(directory: Path, rubbish: bytes) -> None:
    """After a power cut there are blocks of zeros in the file: the events around them must arrive."""
    write_file(directory, event(0), rubbish, event(1))
    assert read(directory) == ([0, 1], {"corrupt": 1})


@pytest.mark.parametrize("size", [1_999_999, 2_000_001, 3_000_000, 9_000_000])
def test_a_very_long_line_is_counted_once_and_passed(directory: Path, size: int) -> None:
    """A file without a newline would be read into the host's memory again and again."""
    write_file(directory, event(0), b"x" * size, event(1))
    write_file(directory, event(2), torn=b"x" * size)
    assert read(directory) == ([0, 1, 2], {"corrupt": 2})


def test_a_long_event_is_read(directory: Path) -> None:
    """Arguments that the user asked to capture may be large."""
    write_file(directory, event(0), event(1, filler=1_900_000), event(2))
    assert read(directory) == ([0, 1, 2], {})


def test_a_drop_line_counts_by_reason(directory: Path) -> None:
    """Events that a worker could not write are part of the accounts that the shipper adds up."""
    name = write_file(directory, b'{"dropped":{"journal_full": 3, "disk": 1}}', event(0), b'{"dropped":{"disk": 2}}')
    assert count_beyond(directory / name, 0) == 7
    assert read(directory) == ([0], {"journal_full": 3, "disk": 3})


def test_a_cursor_past_the_end_reads_from_the_beginning(directory: Path) -> None:
    """A restored backup has the old cursor and shorter files: to send again is safe, to skip is not."""
    name = write_file(directory, event(0))
    batch = Reader(directory).next_batch({name: 1_000_000}, MANY, MANY)
    batch.release()
    assert numbers_in(batch.lines) == [0]
    assert batch.offsets == {name: len(event(0)) + 1}


def test_a_cursor_for_a_missing_file_is_ignored(directory: Path) -> None:
    """A removed file must not stop the delivery of the others."""
    write_file(directory, event(0))
    batch = Reader(directory).next_batch({"00000000000000000000-events-1-0.v1.ndjson": 10}, MANY, MANY)
    batch.release()
    assert numbers_in(batch.lines) == [0]


def test_a_directory_that_is_gone_is_empty(directory: Path) -> None:
    """The shipper must survive the removal of the directory."""
    directory.rmdir()
    assert not Reader(directory).next_batch({}, MANY, MANY)
    assert count_beyond(directory / "x", 0) == 0


def test_what_is_no_journal_is_left_alone(directory: Path) -> None:
    """Drafts, hidden files, another format's files and a planted link are not read."""
    secret = directory.parent / "secret"
    secret.write_bytes(event(0) + b"\n")
    name = write_file(directory, event(1))
    for other in (f".{name}", name.replace("v1", "v2"), "notes.txt", "cursor-sluice.v1.json"):
        (directory / other).write_bytes(event(2) + b"\n")
    (directory / f"1{name}").symlink_to(secret)
    assert read(directory) == ([1], {})


def test_live_and_finished_files_differ_by_their_lock(directory: Path) -> None:
    """A live file that is taken for finished is removed under its writer; a finished one that seems live stays."""
    journal = JournalWriter(directory, 64_000_000)
    journal.append(event(0), VITALS)
    [path] = directory.glob("*.ndjson")
    with finished(path) as size:
        assert size is None
    journal.close()
    with finished(path) as size:
        assert size == len(event(0)) + 1
    path.unlink()
    with finished(path) as size:
        assert size is None


def test_what_is_being_delivered_is_not_evicted(directory: Path) -> None:
    """Events would be counted as dropped and as delivered."""
    first = write_file(directory, event(0, filler=300_000))
    second = write_file(directory, event(1, filler=300_000))
    batch = Reader(directory).next_batch({}, 1, 1_000_000)
    ensure_room(directory, 400_000, lambda _: None)
    assert [(directory / name).exists() for name in (first, second)] == [True, False]
    batch.release()
    ensure_room(directory, 200_000, lambda _: None)
    assert not (directory / first).exists()


good = st.integers(0, 10**6).map(event)
losses = st.dictionaries(st.sampled_from(["disk", "journal_full"]), st.integers(1, 9), min_size=1)
bad = st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"").lstrip(b"{")) | st.just(b"\0" * 300_000)
lines = st.lists(
    good | bad | losses.map(lambda counts: b'{"dropped":' + json.dumps(counts).encode() + b"}"), max_size=12
)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.tuples(lines, bad), max_size=4), st.integers(1, 5), st.integers(1, 2_000))
def test_exactly_the_events_come_out(files: list[tuple[list[bytes], bytes]], max_lines: int, max_bytes: int) -> None:
    """Whatever the files contain: every event arrives once, everything else is counted, and the cursor moves on."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        names = [write_file(directory, *content, torn=torn) for content, torn in files]
        waiting = sum(count_beyond(directory / name, 0) for name in names)
        all_batches = list(batches(directory, max_lines, max_bytes))
    everything = [line for content, _ in files for line in content]
    recorded = [json.loads(line)["dropped"] for line in everything if line.startswith(b'{"dropped":')]
    events = [line for line in everything if line.startswith(b'{"type":')]
    rubbish = len(everything) - len(recorded) - len(events) + sum(1 for _, torn in files if torn)
    dropped = sum((batch.dropped for batch in all_batches), Counter[str]())
    assert [line for batch in all_batches for line in batch.lines] == events
    assert dropped == sum(map(Counter, recorded), Counter[str]()) + Counter(corrupt=rubbish)
    assert waiting == len(events) + dropped.total()
    assert all(len(batch.lines) <= max_lines for batch in all_batches)
