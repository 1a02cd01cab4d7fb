"""All that a folder says of itself, for `sluice-agent status`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice_agent.stats import Stats
from sluice_agent.transport import accounts
from sluice_agent.transport.audience import Choice
from sluice_agent.transport.cursor import Cursor, cursor_path, cursors_in
from sluice_agent.transport.folder import folder_bytes, nearest_existing, other_versions
from sluice_agent.transport.lock import silence, who_ships


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
    """The report on the first destination, `folder`, its `bytes`, and the reports on all `destinations` by name.

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


def report_on(folder: Path, choices: Mapping[str, Choice | None]) -> Report:
    """The report on `folder`, as of now: on the destinations in `choices`, and on any that was ever shipped to."""
    places = {name: Cursor(cursor_path(folder, name), choice=choice) for name, choice in choices.items()}
    places |= {place.destination: place for place in cursors_in(folder)}
    reports = {name: _report(folder, place) for name, place in places.items()}
    return Report(
        **reports[next(iter(choices))],
        folder=str(folder),
        exists=folder.is_dir(),
        bytes=folder_bytes(folder),
        disk_free=shutil.disk_usage(nearest_existing(folder)).free,
        other_versions=len(other_versions(folder)),
        destinations=reports,
    )


def _report(folder: Path, place: Cursor) -> DestinationReport:
    return DestinationReport(
        **accounts.accounts(folder, place),
        skipped=place.counts.skipped,
        resent=place.counts.resent,
        spent={"day": place.spent_on, "events": place.spent} if place.spent_on else None,
        shipper=who_ships(folder, place.destination),
        silent_for=round(silence(folder, place.destination), 1),
        last_delivery=place.last_delivery,
        last_error=place.last_error,
    )
