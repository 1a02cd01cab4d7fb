"""Which files of the journal go: those that every active destination has passed, and what is evicted when it is full.

When the directory is full, first goes what only a destination that lags behind has not read yet: one that is down costs
the others nothing. Then heartbeats and queue snapshots, then the oldest events. Whole files go, and only those that
nobody writes or delivers. Any writer may evict, so the limit holds when no shipper lives.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sluice_agent.log import complain
from sluice_agent.stats import Counts
from sluice_agent.transport.cursor import Cursor, cursors_in, load_cursor
from sluice_agent.transport.directory import VITALS, directory_bytes, file_sizes, journal_files, open_private
from sluice_agent.transport.flock import close_locked, try_lock
from sluice_agent.transport.lock import ShipLock
from sluice_agent.transport.reader import count_beyond, finished

_ROOM_LOCK = "room.lock"
HIGH_WATER = 7 / 8  # of the limit: writers that rotate at the same moment must not pass the limit together
_AT_ONCE = 1_000_000  # bytes: small files go together, so that few appends wait for it, and of large ones one at a time


Losses = Mapping[str, int]
"""How many events each destination loses: each had got to another place. Those of ``""`` are lost to everybody."""


def ensure_room(
    directory: Path,
    limit: int,
    on_dropped: Callable[[Losses], None],
    sizes: Mapping[str, int] | None = None,
    more: int = 0,
) -> bool:
    """Whether the folder may grow, after evicting what may go. `on_dropped` hears of each loss before it happens.

    `sizes` are those of the journal's files, where the caller has just looked at them. `more` is how many bytes a line
    is longer than a file is meant to be.
    """
    high_water = limit * HIGH_WATER - more
    sizes = file_sizes(directory) if sizes is None else sizes
    if sum(sizes.values()) < high_water:
        return True
    descriptor = open_private(directory / _ROOM_LOCK, os.O_RDWR | os.O_CREAT)
    try:
        if not try_lock(descriptor):  # another writer is at it
            return directory_bytes(directory) < high_water
        at_once = max(limit / 64, min(limit / 8, _AT_ONCE))
        return _evict(directory, sizes, high_water - at_once, on_dropped) < high_water
    finally:
        close_locked(descriptor)


def _evict(directory: Path, sizes: Mapping[str, int], target: float, on_dropped: Callable[[Losses], None]) -> int:
    """Evict until no more than `target` bytes are left, or nothing may go; how many are left."""
    cursors = cursors_in(directory)
    left = sum(sizes.values())
    for name in _by_worth(sizes, cursors):
        if left <= target:
            break
        path = directory / name
        with finished(path) as file_size:
            if file_size is not None:
                losses = _losses(directory, name, [load_cursor(cursor.path) for cursor in cursors])
                if losses:
                    on_dropped(losses)
                path.unlink(missing_ok=True)
        if file_size is not None or not path.exists():
            left -= sizes[name]
    return left


def _by_worth(sizes: Mapping[str, int], cursors: Sequence[Cursor]) -> list[str]:
    """The journal's files, those first that can be spared best: then heartbeats before events, and the oldest."""

    def somebody_has_read(name: str) -> bool:
        read = (each.offsets.get(name, 0) for each in cursors if each.selector.reads(name))
        return any(offset >= sizes[name] for offset in read)

    return sorted(sizes, key=lambda name: (not somebody_has_read(name), f"-{VITALS}-" not in name, name))


def _losses(directory: Path, name: str, cursors: Sequence[Cursor]) -> Losses:
    """What is lost with the finished file `name`; `cursors` as they are now that nobody is delivering it."""
    if not cursors:
        lost = {"": count_beyond(directory / name, 0, is_finished=True)}
    else:
        lost = {
            each.destination: count_beyond(
                directory / name, each.offsets.get(name, 0), is_finished=True, selector=each.selector
            )
            for each in cursors
            if each.selector.reads(name)
        }
    return {destination: events for destination, events in lost.items() if events}


_SWITCHED_OFF_AFTER = 86_400.0  # seconds without a shipper: then a destination no longer holds the disk


def remove_passed(directory: Path, own: Cursor, *, writes_off: bool = False) -> None:
    """Remove the finished files that the destinations have passed. `own` is the cursor of the caller, as it is now.

    A destination counts while somebody ships to it, and for a day after. What one that was switched off had still to
    read is counted as dropped, reason ``switched_off``, in its own accounts, by a caller that `writes_off`: one that
    has been up for long enough to know that nobody who ships there is about to start.
    """
    others = [each for each in cursors_in(directory) if each.path != own.path]
    counting = [own, *(each for each in others if _is_active(each))]
    for name in journal_files(directory):
        with finished(directory / name) as size:
            if size is None or not all(_has_passed(each, name, size) for each in counting):
                continue
            if all(
                each in counting
                or _has_passed(each, name, size)
                or (writes_off and _write_off(directory, each, name, size))
                for each in others
            ):
                (directory / name).unlink(missing_ok=True)


def _is_active(cursor: Cursor) -> bool:
    """Whether somebody has shipped to it within a day. Somebody who does now, and is stuck, holds its lock."""
    try:
        age = time.time() - cursor.path.stat().st_mtime
    except FileNotFoundError:
        return False
    return age < _SWITCHED_OFF_AFTER


def _has_passed(cursor: Cursor, name: str, size: int) -> bool:
    return not cursor.selector.reads(name) or cursor.offsets.get(name, 0) >= size


def _write_off(directory: Path, cursor: Cursor, name: str, size: int) -> bool:
    """Count what `cursor` has not read of a file as dropped; False where somebody begins to ship to it just now."""
    lock = ShipLock(directory, cursor.destination)
    if not lock.acquire():
        return False
    try:
        cursor = load_cursor(cursor.path)
        saved = cursor.path.stat()
        lost = count_beyond(directory / name, cursor.offsets.get(name, 0), is_finished=True, selector=cursor.selector)
        if lost:
            complain(
                f"switched off {cursor.destination}",
                "Nobody has shipped to %s for a day: what waits for it in %s is dropped and counted.",
                cursor.destination,
                directory,
            )
            cursor.counts.add(Counts(dropped=Counter(switched_off=lost), read=lost))
        cursor.offsets[name] = size
        cursor.save()
        os.utime(cursor.path, ns=(saved.st_atime_ns, saved.st_mtime_ns))
    finally:
        lock.release()
    return True
