"""The reading side of the journal: the next batch of the lines that a cursor has not passed.

A line that is not an event (a torn end, zeros, rubbish) is skipped and counted. A line that names a destination is read
for that one only. Reading never waits and never writes.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sluice_agent.stats import Counts
from sluice_agent.transport.journal.directory import file_sizes, open_private
from sluice_agent.transport.journal.flock import close_locked, identity, try_lock
from sluice_agent.transport.journal.line import addressed_event, are_events, drops_in, is_addressed, is_event
from sluice_agent.transport.journal.line_selector import ALL, Selector

_CHUNK_BYTES = 262_144  # bytes read at once
_MAX_LINE_BYTES = 2_000_000  # bytes: several times the longest event that the model allows
_MAX_FILES = 100  # in a batch, which keeps them open: the descriptors are the host's


@dataclass(slots=True)
class Batch:
    """Events to deliver together, the cursor's offsets after them, and the counts of events dropped before those.

    Until `release`, the finished files that it was read from stay locked: no writer evicts what is being delivered.
    """

    lines: list[bytes] = field(default_factory=list)
    bytes: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    """The number of events up to the offsets that the destination does not select."""
    is_full: bool = False
    """Whether there may be more to read immediately."""
    _files: list[tuple[int, tuple[int, int], Counts]] = field(default_factory=list)
    _owner: int = field(default_factory=os.getpid)

    def __bool__(self) -> bool:
        return bool(self.offsets)

    def open(self, path: Path) -> int:
        """Open a file, and keep it open. Raises OSError on failure."""
        descriptor = open_private(path, os.O_RDONLY)
        self._files.append((descriptor, identity(descriptor), Counts()))
        return descriptor

    def record_counts(self, before: Counts) -> None:
        """Record the counts of the file that was opened last; `before` are the batch's counts without it."""
        descriptor, opened, _ = self._files.pop()
        dropped = self.dropped.copy()
        dropped.subtract(before.dropped)
        lines = len(self.lines) - before.delivered
        self._files.append((descriptor, opened, Counts(lines, dropped=dropped, read=lines + dropped.total())))

    def close(self) -> None:
        """Close the file that was opened last, and release its lock."""
        descriptor, opened, _ = self._files.pop()
        close_locked(descriptor, self._owner, opened)

    def evicted_counts(self) -> Counts:
        """Return the counts of what a writer has evicted, and counted as dropped, since this batch was read.

        That happens to a file that was live when it was read, and was finished while its events were being delivered.
        """
        evicted = Counts()
        for descriptor, _, counts in self._files:
            if not os.fstat(descriptor).st_nlink:
                evicted.add(counts)
        return evicted

    def release(self) -> None:
        """Close and unlock the files. A forked child does so too: its copies would keep them locked while it lives."""
        while self._files:
            self.close()


class _Section(NamedTuple):
    """Lines that were read from a file: their offset there, and their size in bytes with their newlines."""

    offset: int
    lines: list[bytes]
    size: int


_NOTHING = _Section(-1, [], 0)


class Reader:
    """Reads a directory batch by batch for one shipper, and looks at no file and no line twice while it lasts.

    The directory is listed again when the files of the last listing are read. Lines that were read and did not fit into
    a batch are kept for the next one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._listed: deque[tuple[str, int]] = deque()  # the files still to be read, with their sizes
        self._lane: str | None = None
        self._ahead = _NOTHING  # of the file `_ahead_in`: lines that did not fit into the last batch
        self._ahead_in = ""

    def next_batch(
        self,
        offsets: Mapping[str, int],
        max_lines: int,
        max_bytes: int,
        selector: Selector = ALL,
        batch: Batch | None = None,
    ) -> Batch:
        """Return the oldest events beyond `offsets`: at most `max_lines` in `max_bytes`, or a single larger one.

        Files without an event for `selector` are a separate batch: none of them stays locked during a delivery.
        `batch` is an empty batch to fill, for a caller that must be able to release it at any moment.
        """
        batch = Batch() if batch is None else batch
        batch.is_full = bool(self._listed)  # after these files, there may be others
        if not self._listed or selector.lane != self._lane:
            self._lane = selector.lane
            self._listed = deque(file_sizes(self._directory, self._lane).items())
        while self._listed:
            name, size = self._listed[0]
            if offsets.get(name, 0) != size and not self._read(name, batch, offsets, max_lines, max_bytes, selector):
                batch.is_full = True
                break
            self._listed.popleft()
        return batch

    def _read(
        self,
        name: str,
        batch: Batch,
        offsets: Mapping[str, int],
        max_lines: int,
        max_bytes: int,
        selector: Selector,
    ) -> bool:
        """Read a file from its offset on; return False as soon as the batch is full."""
        try:
            descriptor = batch.open(self._directory / name)
        except OSError:
            return True  # removed meanwhile, or planted by another user
        before = Counts(len(batch.lines), dropped=batch.dropped.copy())
        # Locked before reading: nothing can be appended after that. Shared, as other destinations read too.
        is_finished = _is_finished(descriptor)
        is_exhausted = self._fill(
            batch, descriptor, name, offsets.get(name, 0), max_lines, max_bytes, selector, is_finished=is_finished
        )
        if name in batch.offsets:
            batch.record_counts(before)
        else:
            batch.close()
        return is_exhausted and len(batch.offsets) < _MAX_FILES and not (batch.offsets and not batch.lines)

    def _fill(
        self,
        batch: Batch,
        descriptor: int,
        name: str,
        offset: int,
        max_lines: int,
        max_bytes: int,
        selector: Selector,
        *,
        is_finished: bool,
    ) -> bool:
        """Add the lines of one file to the batch; return False as soon as the batch is full."""
        ahead, self._ahead = self._ahead, _NOTHING
        known = ahead if self._ahead_in == name else _NOTHING
        for start, lines, total in _sections(descriptor, offset, known, is_finished=is_finished):
            fitting = lines[: selector.prefix_length(lines, max_lines - len(batch.lines))]
            size = sum(map(len, fitting)) + len(fitting)
            while fitting and batch.bytes + size > max_bytes and (batch.lines or len(fitting) > 1):
                size -= len(fitting.pop()) + 1
            if fitting:
                _add_lines(batch, fitting, size, selector)
                batch.offsets[name] = start + size
            if len(fitting) < len(lines):
                self._ahead_in = name
                self._ahead = _Section(start + size, lines[len(fitting) :], total - size)
                return False
        return True


def count_beyond(path: Path, offset: int, *, is_finished: bool = False, selector: Selector = ALL) -> int:
    """Return the number of events for `selector` captured beyond `offset`, including those recorded as dropped.

    `is_finished`: the caller knows that the writer is gone, because it holds the file's lock.
    """
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except OSError:
        return 0
    try:
        is_finished = is_finished or _is_finished(descriptor)
        sections = _sections(descriptor, offset, _NOTHING, is_finished=is_finished)
        return sum(_count(section, selector) for section in sections)
    finally:
        close_locked(descriptor)


@contextmanager
def finished(path: Path) -> Iterator[int | None]:
    """Hold the lock of a finished file; yield its size in bytes, or None while it is being written or is gone."""
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield os.fstat(descriptor).st_size if try_lock(descriptor) else None
    finally:
        close_locked(descriptor)


def _is_finished(descriptor: int) -> bool:
    """Return whether the writer of an open file is gone; False on a file system without locks."""
    try:
        return try_lock(descriptor, shared=True)
    except OSError:
        return False


def _count(section: _Section, selector: Selector) -> int:
    batch = Batch()
    _add_lines(batch, section.lines, section.size, selector)
    return len(batch.lines) + batch.dropped.total()


def _add_lines(batch: Batch, lines: list[bytes], size: int, selector: Selector) -> None:
    """Add the selected events to the batch, and count the others. `size` is that of all lines with their newlines."""
    only_events = are_events(lines)
    if only_events and selector.job_filter is None:
        batch.lines += lines
        batch.bytes += size
        return
    prefix = selector.prefix
    for line in lines:
        if only_events or is_event(line):
            if selector.wants(line):
                batch.lines.append(line)
                batch.bytes += len(line) + 1
            else:
                batch.skipped += 1
        elif (event := addressed_event(line, prefix)) is not None:
            batch.lines.append(event)
            batch.bytes += len(event) + 1
        elif is_addressed(line) and not line.startswith(prefix):
            continue
        else:
            batch.dropped.update(drops_in(line, selector.destination))


def _sections(descriptor: int, offset: int, known: _Section, *, is_finished: bool) -> Iterator[_Section]:
    """Yield the lines from the offset on. `known` are lines that were read before, and are not read again.

    A blank line replaces the torn end of a file whose writer is gone, and a line that is too long to be one of ours:
    what can't be read must not be taken for an event because of how it happens to end.
    """
    size = os.fstat(descriptor).st_size
    if known.offset == offset <= size:
        yield known
        offset += known.size
    if not 0 <= offset <= size:
        offset = 0  # an offset of another file: sending again is safe, skipping is not
    rest, is_too_long = b"", False
    while chunk := os.pread(descriptor, _CHUNK_BYTES, offset + len(rest)):
        lines = chunk.split(b"\n")
        read = len(rest) + len(chunk)
        lines[0] = rest + lines[0]
        rest = lines.pop()
        if lines:
            if is_too_long:
                lines[0], is_too_long = b" " * len(lines[0]), False
            yield _Section(offset, lines, read - len(rest))
            offset += read - len(rest)
        elif is_too_long or read > _MAX_LINE_BYTES:
            offset, rest, is_too_long = offset + read, b"", True
    if is_finished and (rest or is_too_long):
        blanks = max(len(rest) - 1, 0)
        yield _Section(offset + len(rest) - blanks - 1, [b" " * blanks], blanks + 1)
