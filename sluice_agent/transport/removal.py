"""Which files of the journal are done with: those that every destination that counts has passed."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

from sluice_agent.log import complain
from sluice_agent.stats import Counts
from sluice_agent.transport import cursor as cursors
from sluice_agent.transport.cursor import Cursor
from sluice_agent.transport.folder import journal_files
from sluice_agent.transport.lock import ShipLock
from sluice_agent.transport.reader import count_beyond, finished

_SWITCHED_OFF_AFTER = 86_400.0  # seconds without a shipper: then a destination no longer holds the disk


def remove_passed(folder: Path, mine: Cursor, *, writes_off: bool = False) -> None:
    """Remove the finished files that the destinations have passed. `mine` is the cursor of the caller, as it is now.

    A destination counts while somebody ships to it, and for a day after. What one that was switched off had still to
    read is counted as dropped, reason ``switched_off``, in its own accounts, by a caller that `writes_off`: one that
    has been up for long enough to know that nobody who ships there is about to start.
    """
    others = [each for each in cursors.cursors_in(folder) if each.path != mine.path]
    counting = [mine, *(each for each in others if _counts(each))]
    for name in journal_files(folder):
        with finished(folder / name) as size:
            if size is None or not all(_has_passed(each, name, size) for each in counting):
                continue
            if all(
                each in counting
                or _has_passed(each, name, size)
                or (writes_off and _write_off(folder, each, name, size))
                for each in others
            ):
                (folder / name).unlink(missing_ok=True)


def _counts(place: Cursor) -> bool:
    """Whether somebody has shipped to it within a day. Somebody who does now, and is stuck, holds its lock."""
    try:
        age = time.time() - place.path.stat().st_mtime
    except FileNotFoundError:
        return False
    return age < _SWITCHED_OFF_AFTER


def _has_passed(place: Cursor, name: str, size: int) -> bool:
    return not place.audience.reads(name) or place.offsets.get(name, 0) >= size


def _write_off(folder: Path, place: Cursor, name: str, size: int) -> bool:
    """Count what `place` has not read of a file as dropped; False where somebody begins to ship to it just now."""
    lock = ShipLock(folder, place.destination)
    if not lock.acquire():
        return False
    try:
        place = cursors.load(place.path)
        saved = place.path.stat()
        lost = count_beyond(folder / name, place.offsets.get(name, 0), is_finished=True, audience=place.audience)
        if lost:
            complain(
                f"switched off {place.destination}",
                "Nobody has shipped to %s for a day: what waits for it in %s is dropped and counted.",
                place.destination,
                folder,
            )
            place.counts.add(Counts(dropped=Counter(switched_off=lost), taken=lost))
        place.offsets[name] = size
        place.save()
        os.utime(place.path, ns=(saved.st_atime_ns, saved.st_mtime_ns))
    finally:
        lock.release()
    return True
