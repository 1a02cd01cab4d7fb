"""What goes when the folder is full: heartbeats and queue snapshots first, then the oldest events.

Before both goes what only a destination that lags behind has not read yet: one that is down costs the others nothing.
Whole files go, and only those that nobody writes or is delivering. Any writer may do it, so the limit holds when no
shipper lives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sluice_agent.transport.cursor import Cursor, cursors_in, load
from sluice_agent.transport.flock import close_locked, try_lock
from sluice_agent.transport.folder import VITALS, file_sizes, folder_bytes, open_private
from sluice_agent.transport.reader import count_beyond, finished

_ROOM_LOCK = "room.lock"
HIGH_WATER = 7 / 8  # of the limit: writers that rotate at the same moment must not pass the limit together
_AT_ONCE = 1_000_000  # bytes: small files go together, so that few appends wait for it, and of large ones one at a time


Losses = Mapping[str, int]
"""How many events each destination loses: each had got to another place. Those of ``""`` are lost to everybody."""


def room_for_more(
    folder: Path,
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
    sizes = file_sizes(folder) if sizes is None else sizes
    if sum(sizes.values()) < high_water:
        return True
    descriptor = open_private(folder / _ROOM_LOCK, os.O_RDWR | os.O_CREAT)
    try:
        if not try_lock(descriptor):  # another writer is at it
            return folder_bytes(folder) < high_water
        at_once = max(limit / 64, min(limit / 8, _AT_ONCE))
        return _evict(folder, sizes, high_water - at_once, on_dropped) < high_water
    finally:
        close_locked(descriptor)


def _evict(folder: Path, sizes: Mapping[str, int], target: float, on_dropped: Callable[[Losses], None]) -> int:
    """Evict until no more than `target` bytes are left, or nothing may go; how many are left."""
    places = cursors_in(folder)
    left = sum(sizes.values())
    for name in _by_worth(sizes, places):
        if left <= target:
            break
        path = folder / name
        with finished(path) as file_size:
            if file_size is not None:
                losses = _losses(folder, name, [load(place.path) for place in places])
                if losses:
                    on_dropped(losses)
                path.unlink(missing_ok=True)
        if file_size is not None or not path.exists():
            left -= sizes[name]
    return left


def _by_worth(sizes: Mapping[str, int], places: Sequence[Cursor]) -> list[str]:
    """The journal's files, those first that can be spared best: then heartbeats before events, and the oldest."""

    def somebody_has_read(name: str) -> bool:
        read = (each.offsets.get(name, 0) for each in places if each.audience.reads(name))
        return any(offset >= sizes[name] for offset in read)

    return sorted(sizes, key=lambda name: (not somebody_has_read(name), f"-{VITALS}-" not in name, name))


def _losses(folder: Path, name: str, places: Sequence[Cursor]) -> Losses:
    """What is lost with the finished file `name`; `places` as they are now that nobody is delivering it."""
    if not places:
        lost = {"": count_beyond(folder / name, 0, is_finished=True)}
    else:
        lost = {
            each.destination: count_beyond(
                folder / name, each.offsets.get(name, 0), is_finished=True, audience=each.audience
            )
            for each in places
            if each.audience.reads(name)
        }
    return {destination: events for destination, events in lost.items() if events}
