"""The record with two slots: whatever interrupts a write, the record before is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.transport.journal.slots import Record, read_record, write_record

BLOCK = 4_096


@pytest.fixture
def path(directory: Path) -> Path:
    return directory / "record.slots"


def test_the_last_record_is_read(path: Path) -> None:
    """Otherwise a shipper that is started again sends again, or skips, what others have counted."""
    for number in range(1, 8):
        write_record(path, Record(number, b"content %d" % number))
        assert read_record(path) == (number, b"content %d" % number)
    assert path.stat().st_size == 2 * BLOCK


@given(damage=st.tuples(st.integers(0, BLOCK - 1), st.binary(min_size=1, max_size=200)), number=st.sampled_from([6, 7]))
def test_a_record_that_was_not_written_whole_leaves_the_one_before(
    tmp_path_factory: pytest.TempPathFactory, damage: tuple[int, bytes], number: int
) -> None:
    """A power cut in the middle of a write must not cost the counts of everything that was ever delivered."""
    path = tmp_path_factory.getbasetemp() / "damaged.slots"
    path.unlink(missing_ok=True)
    contents = {number: b"one" * 100, number + 1: b"two" * 100}
    for record in contents.items():
        write_record(path, Record(*record))
    start, rubbish = damage
    content = bytearray(path.read_bytes())
    slot = (number + 1) % 2 * BLOCK
    end = min(start + len(rubbish), BLOCK)
    content[slot + start : slot + end] = rubbish[: end - start]
    is_same = content == path.read_bytes() or start >= 341
    path.write_bytes(content)
    assert read_record(path) in ([(number + 1, contents[number + 1])] if is_same else list(contents.items()))
    assert is_same or read_record(path).content in contents.values()


def test_a_record_that_grows_gets_larger_slots(path: Path) -> None:
    """A cursor of a hundred files is longer than a slot: it must be kept all the same."""
    for number, size in enumerate((10, BLOCK - 41, BLOCK - 40, 100_000, 10, 99_999), 1):
        write_record(path, Record(number, b"x" * size))
        assert read_record(path) == (number, b"x" * size)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_former_writer_takes_the_place_of_no_newer_record(path: Path) -> None:
    """A process that was suspended while another took over writes once more: the newer counts must stay."""
    for number in range(1, 10):
        write_record(path, Record(number, b"holder"))
    write_record(path, Record(4, b"former"))
    assert read_record(path) == (9, b"holder")
    write_record(path, Record(5, b"former"))
    assert read_record(path).content == b"former"


@pytest.mark.parametrize("content", [b"", b"\0" * 8_192, b"{}", b"0 0 0 " * 100, bytes(range(256)) * 32])
def test_a_file_without_a_record_is_refused(path: Path, content: bytes) -> None:
    """What a full disk has left must not be taken for offsets."""
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no record"):
        read_record(path)
    write_record(path, Record(1, b"new"))
    assert read_record(path) == (1, b"new")
