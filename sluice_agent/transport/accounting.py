"""The figures of a journal's directory: what became of its events, what still waits, and who ships."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice_agent.stats import Stats
from sluice_agent.transport.cursor import Cursor, cursor_path, cursors_in, load_cursor
from sluice_agent.transport.directory import directory_bytes, journal_files, nearest_existing, other_versions
from sluice_agent.transport.lock import seconds_since_touch, who_ships
from sluice_agent.transport.reader import count_beyond
from sluice_agent.transport.selector import JobFilter

_LOOKS = 5  # at a folder whose shipper is at work, until two agree


def accounts(directory: Path, cursor: Cursor) -> Stats:
    """The figures of the destination whose cursor `cursor` is. Reads all that waits.

    What the destination does not choose to be told is in none of them.
    """
    selector = cursor.selector
    found = cursor.counts.stats(0)
    for _ in range(_LOOKS):
        found = cursor.counts.stats(
            sum(
                count_beyond(directory / name, cursor.offsets.get(name, 0), selector=selector)
                for name in journal_files(directory, selector.lane)
            )
        )
        before, cursor = cursor, load_cursor(cursor.path)
        if cursor.counts == before.counts:
            break  # else files may have been delivered and removed meanwhile: they would be in neither figure
    return found


def is_settled(directory: Path, destination: str, goal: Mapping[str, int]) -> bool:
    """Whether the cursor of `destination` has passed the sizes in `goal`. A file that is gone was passed."""
    cursor = load_cursor(cursor_path(directory, destination))
    left = set(journal_files(directory, cursor.selector.lane))
    return all(name not in left or cursor.offsets.get(name, 0) >= size for name, size in goal.items())


class DestinationReport(Stats):
    """The accounts of one destination, its `shipper` (pid and hostname), the last delivery and the last error.

    `skipped` events are those that it does not choose to be told: they are in none of its accounts. `resent` is how
    many were sent a second time because the answer was lost. `spent` says how many `events` went out on the `day`
    (UTC), of its budget where there is one; None: none ever did. `last_error` is the error since the last delivery:
    None while deliveries succeed. `silent_for` is how many seconds ago the one that ships has last moved.
    """

    skipped: int
    resent: int
    shipper: dict[str, Any] | None
    silent_for: float
    spent: dict[str, Any] | None
    last_delivery: str | None
    last_error: dict[str, Any] | None


class Report(DestinationReport):
    """The report on the first destination, `directory`, its `bytes`, and the reports on all `destinations` by name.

    `exists` says whether the folder is there: it is not before the first event. `disk_free` is how many bytes this user
    may still write there; `other_versions` how many files there are in another version's format, which this one leaves
    alone.
    """

    folder: str
    exists: bool
    bytes: int
    disk_free: int
    other_versions: int
    destinations: dict[str, DestinationReport]


def report_on(directory: Path, job_filters: Mapping[str, JobFilter | None]) -> Report:
    """Return the report on `directory`: on the destinations in `job_filters`, and on any that was ever shipped to."""
    cursors = {
        name: Cursor(cursor_path(directory, name), job_filter=job_filter) for name, job_filter in job_filters.items()
    }
    cursors |= {cursor.destination: cursor for cursor in cursors_in(directory)}
    reports = {name: _report(directory, cursor) for name, cursor in cursors.items()}
    return Report(
        **reports[next(iter(job_filters))],
        folder=str(directory),
        exists=directory.is_dir(),
        bytes=directory_bytes(directory),
        disk_free=shutil.disk_usage(nearest_existing(directory)).free,
        other_versions=len(other_versions(directory)),
        destinations=reports,
    )


def _report(directory: Path, cursor: Cursor) -> DestinationReport:
    return DestinationReport(
        **accounts(directory, cursor),
        skipped=cursor.counts.skipped,
        resent=cursor.counts.resent,
        spent={"day": cursor.spent_on, "events": cursor.spent} if cursor.spent_on else None,
        shipper=who_ships(directory, cursor.destination),
        silent_for=round(seconds_since_touch(directory, cursor.destination), 1),
        last_delivery=cursor.last_delivery,
        last_error=cursor.last_error,
    )
