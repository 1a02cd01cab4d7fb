"""The accounts of a folder, as anyone who can read it sees them: what became of the events, and what still waits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sluice_agent.stats import Stats
from sluice_agent.transport import cursor
from sluice_agent.transport.folder import journal_files
from sluice_agent.transport.reader import count_beyond

_LOOKS = 5  # at a folder whose shipper is at work, until two agree


def accounts(folder: Path, place: cursor.Cursor) -> Stats:
    """The figures of the destination whose cursor `place` is. Reads all that waits.

    What the destination does not choose to be told is in none of them.
    """
    audience = place.audience
    found = place.counts.stats(0)
    for _ in range(_LOOKS):
        found = place.counts.stats(
            sum(
                count_beyond(folder / name, place.offsets.get(name, 0), audience=audience)
                for name in journal_files(folder, audience.lane)
            )
        )
        before, place = place, cursor.load(place.path)
        if place.counts == before.counts:
            break  # else files may have been delivered and removed meanwhile: they would be in neither figure
    return found


def is_settled(folder: Path, destination: str, goal: Mapping[str, int]) -> bool:
    """Whether the cursor of `destination` has passed the sizes in `goal`. A file that is gone was passed."""
    place = cursor.load(cursor.cursor_path(folder, destination))
    left = set(journal_files(folder, place.audience.lane))
    return all(name not in left or place.offsets.get(name, 0) >= size for name, size in goal.items())
