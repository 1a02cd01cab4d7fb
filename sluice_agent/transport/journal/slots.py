"""A record in a file with two slots, written in turn: whatever interrupts a write, the other slot is complete.

    00000000000000000007 0000000321 5d41402a {"offsets": …}    the record's number, its bytes, their checksum, the bytes

The number decides the slot, and the complete record with the highest number is the present one. Nothing is renamed,
which on a busy disk takes a millisecond for each record, as the file system then writes the content out.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from sluice_agent.transport.journal.directory import open_private

_BLOCK = 4_096  # bytes of a slot at least, and a multiple of them: so the two slots share no block of the disk
_HEADER = 41  # bytes, with the blank after it
_READS = 3  # of a file in which no record is complete: a writer may have passed both slots during one read
_REPLACED = (errno.ENOENT, errno.EISDIR, errno.ELOOP)  # no file, or a directory or a link in its place


class Record(NamedTuple):
    """A record: its number, and its content."""

    number: int
    content: bytes


NO_RECORD = Record(0, b"")
"""What is before the first one."""


def read_record(path: Path) -> Record:
    """Return the present record of the file. Raises OSError if it can't be read, ValueError if it holds none."""
    for _ in range(_READS):
        descriptor = open_private(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            content = os.pread(descriptor, size, 0)
        finally:
            os.close(descriptor)
        records = [_parsed(content[: size // 2]), _parsed(content[size // 2 :])]
        if complete := [record for record in records if record is not None]:
            return max(complete)
    raise ValueError("no record in it is complete")


def write_record(path: Path, record: Record) -> None:
    """Write `record`, whose number is one above the present one's. The file is made, or made larger, where needed.

    Raises OSError where that can't be done: the present record then stays valid.
    """
    content = b"%020d %010d %08x " % (record.number, len(record.content), _checksum(record)) + record.content
    try:
        descriptor = open_private(path, os.O_WRONLY)
    except OSError as error:
        if error.errno not in _REPLACED:
            raise
        _replace(path, content, record.number)
        return
    try:
        slot = os.fstat(descriptor).st_size // 2
        fits = len(content) <= slot
        if fits:
            _write(descriptor, content, record.number % 2 * slot)
    finally:
        os.close(descriptor)
    if not fits:
        _replace(path, content, record.number)


def _replace(path: Path, content: bytes, number: int) -> None:
    """Replace the file by a new one with slots of twice the size that is needed."""
    slot = -(-2 * len(content) // _BLOCK) * _BLOCK
    slots = bytearray(2 * slot)
    start = number % 2 * slot
    slots[start : start + len(content)] = content
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = open_private(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        _write(descriptor, bytes(slots), 0)
    finally:
        os.close(descriptor)
    try:
        draft.replace(path)
    except IsADirectoryError:  # it keeps its content, under another name
        path.rename(path.with_name(f"{path.name}.directory-{secrets.token_hex(4)}"))
        draft.replace(path)


def _write(descriptor: int, content: bytes, start: int) -> None:
    if os.pwrite(descriptor, content, start) != len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _checksum(record: Record) -> int:
    return crc32(record.content, crc32(b"%d" % record.number))


def _parsed(slot: bytes) -> Record | None:
    """Return the record in a slot; None where it is not complete."""
    try:
        number, length, checksum = slot[:_HEADER].split()
        record = Record(int(number), slot[_HEADER : _HEADER + int(length)])
        is_complete = len(record.content) == int(length) and _checksum(record) == int(checksum, 16)
    except ValueError:
        return None
    return record if is_complete else None
