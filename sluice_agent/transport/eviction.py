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
from sluice_agent.transport.flock import try_lock
from sluice_agent.transport.folder import VITALS, file_sizes, folder_bytes, open_private
from sluice_agent.transport.reader import count_beyond, finished

_ROOM_LOCK = "room.lock"
HIGH_WATER = 7 / 8  # of the limit: writers that rotate at the same moment must not pass the limit together
_LOW_WATER = 3 / 4


Losses = Mapping[str, int]
"""How many events each destination loses: each had got to another place. Those of ``""`` are lost to everybody."""


def room_for_more(folder: Path, limit: int, on_dropped: Callable[[Losses], None]) -> bool:
    """Whether the folder may grow, after evicting what may go. `on_dropped` hears of each loss before it happens."""
    if folder_bytes(folder) < limit * HIGH_WATER:
        return True
    descriptor = open_private(folder / _ROOM_LOCK, os.O_RDWR | os.O_CREAT)
    try:
        if try_lock(descriptor):  # else another writer is at it
            _evict(folder, limit * _LOW_WATER, on_dropped)
    finally:
        os.close(descriptor)
    return folder_bytes(folder) < limit * HIGH_WATER


def _evict(folder: Path, target: float, on_dropped: Callable[[Losses], None]) -> None:
    sizes, places = file_sizes(folder), cursors_in(folder)
    size = sum(sizes.values())
    for name in _by_worth(sizes, places):
        if size <= target:
            return
        with finished(folder / name) as file_size:
            if file_size is None:
                continue
            losses = _losses(folder, name, [load(place.path) for place in places])
            if losses:
                on_dropped(losses)
            (folder / name).unlink(missing_ok=True)
            size -= file_size


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
