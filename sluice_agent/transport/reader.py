"""The reading side of the journal: from the lines that a cursor has not passed to the next batch.

A line that is no event (a torn end, zeros, rubbish) is skipped and counted. A line that names a destination
(``{"for":"ackly","event":{…}}``, ``{"dropped":{…},"for":"ackly"}``) is read by that one only. Reading never waits and
never writes.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sluice_agent.stats import Counts, checked_int
from sluice_agent.transport.directory import journal_files, open_private
from sluice_agent.transport.flock import close_locked, identity, try_lock
from sluice_agent.transport.selector import ADDRESS_PREFIX, ALL, Selector

LOSS_PREFIX = b'{"dropped":'
_EVENT_PREFIX = b'{"type":"'
_BETWEEN_EVENTS = b"}\n" + _EVENT_PREFIX
_CHUNK = 262_144  # bytes read at once
_LONGEST_LINE = 2_000_000  # bytes: several times the longest event that the model allows
_MOST_FILES = 100  # to a batch, which holds them open: the descriptors are the host's


@dataclass(slots=True)
class Batch:
    """Events to deliver as one, where the cursor will stand afterwards, and what was dropped on the way there.

    Until `release`, the finished files that it came from stay locked, so that nobody evicts what is being delivered.
    """

    lines: list[bytes] = field(default_factory=list)
    bytes: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    """Events on the way that the destination does not choose."""
    is_full: bool = False
    """Whether there may be more to read at once."""
    _held: list[tuple[int, tuple[int, int], Counts]] = field(default_factory=list)
    _owner: int = field(default_factory=os.getpid)

    def __bool__(self) -> bool:
        return bool(self.offsets)

    def open(self, path: Path) -> int:
        """Open a file, and keep it open. Raises OSError where that can't be done."""
        descriptor = open_private(path, os.O_RDONLY)
        self._held.append((descriptor, identity(descriptor), Counts()))
        return descriptor

    def note(self, before: Counts) -> None:
        """Note what came of the file that was opened last; `before` is what the batch held without it."""
        descriptor, opened, _ = self._held.pop()
        dropped = self.dropped.copy()
        dropped.subtract(before.dropped)
        lines = len(self.lines) - before.delivered
        self._held.append((descriptor, opened, Counts(lines, dropped=dropped, read=lines + dropped.total())))

    def close(self) -> None:
        """Let go of the file that was opened last."""
        descriptor, opened, _ = self._held.pop()
        close_locked(descriptor, self._owner, opened)

    def evicted(self) -> Counts:
        """What a writer has evicted, and counted as dropped, since this was read.

        That happens to a file that was live when it was read, and was finished while its events were on their way.
        """
        gone = Counts()
        for descriptor, _, counts in self._held:
            if not os.fstat(descriptor).st_nlink:
                gone.add(counts)
        return gone

    def release(self) -> None:
        """Let go of the files. A forked child does so too: its copies would keep them locked while it lives."""
        while self._held:
            self.close()


def next_batch(
    directory: Path,
    offsets: dict[str, int],
    most_lines: int,
    most_bytes: int,
    selector: Selector = ALL,
    batch: Batch | None = None,
) -> Batch:
    """The oldest events beyond `offsets`: at most `most_lines` in `most_bytes`, or a single one that is larger.

    Files without an event for `selector` are a batch of their own: it holds none of them while it waits to deliver.
    `batch` is an empty one to fill, for a caller that must be able to release it at any moment.
    """
    batch = Batch() if batch is None else batch
    for name in journal_files(directory, selector.lane):
        try:
            descriptor = batch.open(directory / name)
        except OSError:
            continue  # removed meanwhile, or planted by somebody else
        before = Counts(len(batch.lines), dropped=batch.dropped.copy())
        # The lock before reading: nothing can be added to what we then see. Shared, as other destinations read too.
        is_finished = _is_finished(descriptor)
        more = _fill(
            batch, descriptor, name, offsets.get(name, 0), most_lines, most_bytes, selector, is_finished=is_finished
        )
        if name in batch.offsets:
            batch.note(before)
        else:
            batch.close()
        if not more or len(batch.offsets) >= _MOST_FILES or (batch.offsets and not batch.lines):
            batch.is_full = True
            break
    return batch


def count_beyond(path: Path, offset: int, *, is_finished: bool = False, selector: Selector = ALL) -> int:
    """How many events for `selector` were captured beyond `offset`, those included that were noted as dropped.

    `is_finished` says that the caller knows the writer to be gone, because it holds the file's lock.
    """
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except OSError:
        return 0
    try:
        is_finished = is_finished or _is_finished(descriptor)
        return sum(_count(run, selector) for run, _ in _runs(descriptor, offset, is_finished=is_finished))
    finally:
        close_locked(descriptor)


@contextmanager
def finished(path: Path) -> Iterator[int | None]:
    """Hold the lock of a file whose writer is gone: its size in bytes, or None while it is being written or is gone."""
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
    """Whether the writer of an open file is gone. Where nothing can be locked nobody knows."""
    try:
        return try_lock(descriptor, shared=True)
    except OSError:
        return False


def _fill(
    batch: Batch,
    descriptor: int,
    name: str,
    offset: int,
    most_lines: int,
    most_bytes: int,
    selector: Selector,
    *,
    is_finished: bool,
) -> bool:
    """Take the lines of one file; False as soon as the batch is full."""
    for run, start in _runs(descriptor, offset, is_finished=is_finished):
        lines = run.split(b"\n")
        lines.pop()  # what follows the last newline: nothing
        taken = lines[: selector.prefix_length(lines, most_lines - len(batch.lines))]
        size = sum(map(len, taken)) + len(taken)
        while taken and batch.bytes + size > most_bytes and (batch.lines or len(taken) > 1):
            size -= len(taken.pop()) + 1
        if taken:
            _sort(batch, taken, run[:size], selector)
            batch.offsets[name] = start + size
        if len(taken) < len(lines):
            return False
    return True


def _count(run: bytes, selector: Selector) -> int:
    lines = run.count(b"\n")
    if selector.job_filter is None and _is_sound(run, lines):
        return lines
    found = Batch()
    _sort(found, run.split(b"\n")[:-1], run, selector)
    return len(found.lines) + found.dropped.total()


def _is_sound(run: bytes, lines: int) -> bool:
    """Whether all lines of a run are events: to count what stands between two costs a tenth of looking at each."""
    return run.startswith(_EVENT_PREFIX) and run.endswith(b"}\n") and run.count(_BETWEEN_EVENTS) == lines - 1


def _sort(batch: Batch, lines: list[bytes], run: bytes, selector: Selector) -> None:
    """Events to the batch, and the rest to what was dropped. `run` is the lines as they stand in the file."""
    sound = _is_sound(run, len(lines))
    if sound and selector.job_filter is None:
        batch.lines += lines
        batch.bytes += len(run)
        return
    for line in lines:
        if sound or _is_event(line):
            if selector.wants(line):
                batch.lines.append(line)
                batch.bytes += len(line) + 1
            else:
                batch.skipped += 1
        elif line.startswith(selector.prefix) and _is_event(event := line[len(selector.prefix) : -1]):
            batch.lines.append(event)
            batch.bytes += len(event) + 1
        elif line.startswith(ADDRESS_PREFIX) and not line.startswith(selector.prefix):
            continue
        else:
            batch.dropped.update(_losses_in(line, selector))


def _is_event(line: bytes) -> bool:
    return line.startswith(_EVENT_PREFIX) and line.endswith(b"}")


def _losses_in(line: bytes, selector: Selector) -> Counter[str]:
    """What a line that is no event says was dropped, by reason; a line that says nothing is a loss itself."""
    if line.startswith(LOSS_PREFIX):
        try:
            said = json.loads(line)
            if said.get("for") not in (None, selector.destination):
                return Counter()
            return Counter({str(reason): checked_int(count) for reason, count in said["dropped"].items()})
        except (ValueError, TypeError, AttributeError, RecursionError):
            pass
    return Counter(corrupt=1)


def _runs(descriptor: int, offset: int, *, is_finished: bool) -> Iterator[tuple[bytes, int]]:
    """Whole lines, many at once, each ended by a newline, and the offset where they begin.

    In place of the torn end of a file whose writer is gone, and of a line that is too long to be one of ours, comes a
    blank line: what can't be read must not be taken for an event because of how it happens to end.
    """
    if not 0 <= offset <= os.fstat(descriptor).st_size:
        offset = 0  # a cursor of another file: to send again is safe, to skip is not
    rest, is_too_long = b"", False
    while chunk := os.pread(descriptor, _CHUNK, offset + len(rest)):
        rest += chunk
        if is_too_long and (end := rest.find(b"\n") + 1):
            yield _blank(end), offset
            offset, rest, is_too_long = offset + end, rest[end:], False
        if end := rest.rfind(b"\n") + 1:
            yield rest[:end], offset
            offset, rest = offset + end, rest[end:]
        elif is_too_long or len(rest) > _LONGEST_LINE:
            offset, rest, is_too_long = offset + len(rest), b"", True
    if is_finished and (rest or is_too_long):
        size = max(len(rest), 1)
        yield _blank(size), offset + len(rest) - size


def _blank(size: int) -> bytes:
    return b" " * (size - 1) + b"\n"
