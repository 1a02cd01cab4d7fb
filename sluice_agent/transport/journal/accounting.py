"""Figures of a journal's directory: counts of its events by outcome, what is pending, and which process ships."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice_agent.stats import Stats
from sluice_agent.transport.journal.cursor import Cursor, cursor_path, cursors_in, load_cursor
from sluice_agent.transport.journal.directory import directory_bytes, journal_files, nearest_existing, other_versions
from sluice_agent.transport.journal.line_selector import JobFilter
from sluice_agent.transport.journal.reader import count_beyond
from sluice_agent.transport.journal.ship_lock import current_shipper, seconds_since_touch

_MAX_READS = 5  # of a directory that is being shipped, until the counts of two agree


def accounts(directory: Path, cursor: Cursor) -> Stats:
    """Return the figures of the destination of `cursor`. Reads all that is pending.

    Events that the destination does not select are in none of them.
    """
    selector = cursor.selector
    stats = cursor.counts.stats(0)
    for _ in range(_MAX_READS):
        stats = cursor.counts.stats(
            sum(
                count_beyond(directory / name, cursor.offsets.get(name, 0), selector=selector)
                for name in journal_files(directory, selector.lane)
            )
        )
        previous, cursor = cursor, load_cursor(cursor.path)
        if cursor.counts == previous.counts:
            break  # else files may have been delivered and removed meanwhile: they would be in neither figure
    return stats


def is_settled(directory: Path, destination: str, goal: Mapping[str, int]) -> bool:
    """Return whether the cursor of `destination` has passed the sizes in `goal`. A file that is gone was passed."""
    cursor = load_cursor(cursor_path(directory, destination))
    remaining = set(journal_files(directory, cursor.selector.lane))
    return all(name not in remaining or cursor.offsets.get(name, 0) >= size for name, size in goal.items())


class DestinationReport(Stats):
    """The accounts of one destination, its `shipper` (pid and hostname), the last delivery and the last error.

    `skipped` counts the events that it does not select: they are in none of its accounts. `resent` counts those that
    were sent a second time because the answer was lost. `spent` has the number of `events` sent on the `day` (UTC), of
    its budget where it has one; None: none was ever sent. `last_error` is the error since the last delivery: None while
    deliveries succeed. `silent_for` is the time in seconds since the shipping process last touched its lock.
    """

    skipped: int
    resent: int
    shipper: dict[str, Any] | None
    silent_for: float
    spent: dict[str, Any] | None
    last_delivery: str | None
    last_error: dict[str, Any] | None


class Report(DestinationReport):
    """The report on the first destination, the directory, its `bytes`, and the reports on all `destinations` by name.

    `folder` is the directory; `exists` is False before the first event. `disk_free` is the number of bytes that this
    user may still write there; `other_versions` counts the files in another version's format, which this version leaves
    alone.
    """

    folder: str
    exists: bool
    bytes: int
    disk_free: int
    other_versions: int
    destinations: dict[str, DestinationReport]


def report_on(directory: Path, job_filters: Mapping[str, JobFilter | None]) -> Report:
    """Return the report on `directory`: on the destinations in `job_filters`, and on any that has a cursor there."""
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
        shipper=current_shipper(directory, cursor.destination),
        silent_for=round(seconds_since_touch(directory, cursor.destination), 1),
        last_delivery=cursor.last_delivery,
        last_error=cursor.last_error,
    )
