"""Retention of the journal's segments: removal once every active destination has passed them, and eviction.

When the directory is full, segments that some destination has already read are evicted first: one that is down costs
the others nothing. Then heartbeats and queue snapshots, then the oldest events. Only whole segments are evicted, and
none that is being written or delivered. Any writer may evict, so the limit holds when no shipper runs.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sluice_agent.log import warn_limited
from sluice_agent.stats import Counts
from sluice_agent.transport.journal.cursor import Cursor, cursors_in, load_cursor
from sluice_agent.transport.journal.directory import (
    SegmentName,
    directory_bytes,
    file_sizes,
    journal_files,
    open_private,
)
from sluice_agent.transport.journal.flock import close_locked, try_lock
from sluice_agent.transport.journal.line import VITALS
from sluice_agent.transport.journal.reader import count_beyond, finished
from sluice_agent.transport.journal.ship_lock import ShipLock

_ROOM_LOCK = "room.lock"
HIGH_WATER = 7 / 8  # of the limit: writers that rotate at the same moment must not pass the limit together
# bytes: small files are evicted together, so that few appends wait for that, and large ones one at a time
_EVICTION_STEP = 1_000_000
_INACTIVE_AFTER = 86_400.0  # seconds without a shipper: then a destination no longer keeps files

EvictedEvents = Mapping[str, int]
"""The numbers of evicted events by destination, as cursors differ; ``""``: all destinations, where no cursor exists."""


def ensure_room(
    directory: Path,
    limit: int,
    on_evict: Callable[[EvictedEvents], None],
    sizes: Mapping[str, int] | None = None,
    excess: int = 0,
) -> bool:
    """Evict segments if the directory is full, and return whether it may grow. Calls `on_evict` before each removal.

    `sizes` are those of the journal's segments, where the caller has just read them. `excess` is the number of bytes by
    which a line is longer than a segment's limit.
    """
    high_water = limit * HIGH_WATER - excess
    sizes = file_sizes(directory) if sizes is None else sizes
    if sum(sizes.values()) < high_water:
        return True
    descriptor = open_private(directory / _ROOM_LOCK, os.O_RDWR | os.O_CREAT)
    try:
        if not try_lock(descriptor):  # another writer is evicting
            return directory_bytes(directory) < high_water
        step = max(limit / 64, min(limit / 8, _EVICTION_STEP))
        return _evict(directory, sizes, high_water - step, on_evict) < high_water
    finally:
        close_locked(descriptor)


def _evict(directory: Path, sizes: Mapping[str, int], target: float, on_evict: Callable[[EvictedEvents], None]) -> int:
    """Evict until at most `target` bytes remain, or nothing more may be evicted; return the remaining bytes."""
    cursors = cursors_in(directory)
    remaining = sum(sizes.values())
    for name in _eviction_order(sizes, cursors):
        if remaining <= target:
            break
        path = directory / name
        with finished(path) as file_size:
            if file_size is not None:
                evicted = _unread_events(directory, name, [load_cursor(cursor.path) for cursor in cursors])
                if evicted:
                    on_evict(evicted)
                path.unlink(missing_ok=True)
        if file_size is not None or not path.exists():
            remaining -= sizes[name]
    return remaining


def _eviction_order(sizes: Mapping[str, int], cursors: Sequence[Cursor]) -> list[str]:
    """Sort segments for eviction: those that a destination has read first, then heartbeats, then the oldest events."""

    def is_read(name: str) -> bool:
        offsets = (cursor.offsets.get(name, 0) for cursor in cursors if cursor.selector.reads(name))
        return any(offset >= sizes[name] for offset in offsets)

    return sorted(sizes, key=lambda name: (not is_read(name), SegmentName.parse(name).lane != VITALS, name))


def _unread_events(directory: Path, name: str, cursors: Sequence[Cursor]) -> EvictedEvents:
    """Count the events that `cursors` have not read of the finished file `name`, which no shipper is delivering now."""
    if not cursors:
        unread = {"": count_beyond(directory / name, 0, is_finished=True)}
    else:
        unread = {
            cursor.destination: count_beyond(
                directory / name, cursor.offsets.get(name, 0), is_finished=True, selector=cursor.selector
            )
            for cursor in cursors
            if cursor.selector.reads(name)
        }
    return {destination: events for destination, events in unread.items() if events}


def remove_passed(directory: Path, own: Cursor, *, writes_off: bool = False) -> set[str]:
    """Remove the finished files that all destinations have passed, and return the names of all others.

    `own` is the caller's cursor in its present state.

    A destination keeps files while a process ships to it, and for a day after. The unread events of one that was
    switched off are counted as dropped, reason ``switched_off``, in its accounts, by a caller that `writes_off`: one
    that has run for long enough to know that no process that ships there is about to start.
    """
    others = cursors_in(directory, except_for=own.path)
    active = [own, *(cursor for cursor in others if _is_active(cursor))]
    names = journal_files(directory)
    left = set(names)
    for name in names:
        with finished(directory / name) as size:
            if size is None or not all(_has_passed(cursor, name, size) for cursor in active):
                continue
            if all(
                cursor in active
                or _has_passed(cursor, name, size)
                or (writes_off and _write_off(directory, cursor, name, size))
                for cursor in others
            ):
                (directory / name).unlink(missing_ok=True)
                left.remove(name)
    return left


def _is_active(cursor: Cursor) -> bool:
    """Return whether a process has shipped to it within a day. One that does so now, and is stuck, holds its lock."""
    saved_at = cursor.saved_at()
    return saved_at is not None and time.time() - saved_at / 1e9 < _INACTIVE_AFTER


def _has_passed(cursor: Cursor, name: str, size: int) -> bool:
    return not cursor.selector.reads(name) or cursor.offsets.get(name, 0) >= size


def _write_off(directory: Path, cursor: Cursor, name: str, size: int) -> bool:
    """Count the unread events of a file as dropped; return False if a process now holds the destination's lock."""
    lock = ShipLock(directory, cursor.destination)
    if not lock.acquire():
        return False
    try:
        cursor = load_cursor(cursor.path)
        saved_at = cursor.saved_at() or 0
        unread = count_beyond(directory / name, cursor.offsets.get(name, 0), is_finished=True, selector=cursor.selector)
        if unread:
            warn_limited(
                f"switched off {cursor.destination}",
                "No process has shipped to %s for a day: its pending events in %s are dropped and counted.",
                cursor.destination,
                directory,
            )
            cursor.counts.add(Counts(dropped=Counter(switched_off=unread), read=unread))
        cursor.offsets[name] = size
        cursor.save()
        os.utime(cursor.path, ns=(saved_at, saved_at))
    finally:
        lock.release()
    return True
