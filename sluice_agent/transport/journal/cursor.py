"""A destination's cursor: its offset in each file of the journal, and the counts of the events before those offsets.

Offsets and counts are one record, so that they agree at every moment and across crashes. Earlier versions kept it in
another file, ``cursor-NAME.v1.json``: it is read if it is the newer one, and stays there for them.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sluice_agent.log import warn_limited
from sluice_agent.stats import Counts, checked_int
from sluice_agent.transport.journal.directory import FORMAT, check_directory
from sluice_agent.transport.journal.line_selector import JobFilter, Selector
from sluice_agent.transport.journal.slots import NO_RECORD, Record, read_record, write_record

_SUFFIX, _FORMER_SUFFIX = ".slots", ".json"


@dataclass(slots=True)
class Cursor:
    """Offsets in bytes by file name, the counts of everything before them, and the last error and delivery.

    `job_filter` selects the jobs that the destination takes; None: everything. `unconfirmed` counts, by digest, how
    often an event was sent that the destination may have taken, as its answer was lost.
    `spent` is the number of events sent on the day `spent_on` (UTC), of the budget where there is one.
    """

    path: Path
    offsets: dict[str, int] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    last_error: dict[str, Any] | None = None
    last_delivery: str | None = None
    job_filter: JobFilter | None = None
    unconfirmed: dict[str, int] = field(default_factory=dict)
    spent_on: str = ""
    spent: int = 0
    _saved: Record = field(default=NO_RECORD, compare=False, repr=False)

    @property
    def destination(self) -> str:
        """The name of the destination."""
        return self.path.name.removeprefix("cursor-").partition(".")[0]

    @property
    def selector(self) -> Selector:
        """The selector of the lines that the destination takes."""
        return Selector(self.destination, self.job_filter)

    def save(self) -> None:
        """Write the record. Raises OSError where that can't be done: the former one then stays valid."""
        check_directory(self.path.parent)
        content = json.dumps(
            {
                "offsets": self.offsets,
                "counts": self.counts.to_dict(),
                "lastError": self.last_error,
                "lastDelivery": self.last_delivery,
                "choice": self.job_filter.to_dict() if self.job_filter else None,
                "sendings": self.unconfirmed,
                "spentOn": self.spent_on,
                "spent": self.spent,
            }
        ).encode()
        record = Record(self._saved.number + 1, content)
        write_record(self.path, record)
        self._saved = record

    def is_unchanged(self) -> bool:
        """Return whether the file has what this object saved last.

        A former shipper that was suspended just before it saved may write its own record, once.
        """
        try:
            return read_record(self.path) == self._saved
        except (OSError, ValueError):
            return False

    def saved_at(self) -> int | None:
        """Return when it was saved, by whichever version, in nanoseconds since 1970; None if it never was."""
        times = (_saved_at(path) for path in (self.path, _former_path(self.path)))
        return max((time for time in times if time is not None), default=None)


def cursor_path(directory: Path, destination: str) -> Path:
    """Return the path of the cursor of `destination`."""
    return directory / f"cursor-{destination}.{FORMAT}{_SUFFIX}"


def cursors_in(directory: Path, except_for: Path | None = None) -> list[Cursor]:
    """Return the cursors of all destinations, but for the one with the path `except_for`."""
    files = directory.glob(f"cursor-*.{FORMAT}.*")
    paths = {path.with_suffix(_SUFFIX) for path in files if path.suffix in (_SUFFIX, _FORMER_SUFFIX)}
    return [load_cursor(path) for path in sorted(paths) if path != except_for]


def load_cursor(path: Path) -> Cursor:
    """Return the cursor in `path`; a fresh one where the file is missing or not valid.

    Reading again from the beginning loses nothing: the endpoint skips what it has.
    """
    record = NO_RECORD
    try:
        record = _present_record(path)
        return Cursor(path) if record == NO_RECORD else _parsed(path, record)
    except (OSError, RecursionError, ValueError, TypeError, KeyError, AttributeError) as error:
        warn_limited(
            "cursor", "The cursor %s is not valid (%s): what is left in the journal is sent again.", path, error
        )
        return Cursor(path, _saved=record)


def _present_record(path: Path) -> Record:
    """Return the record that was saved last. An earlier version's has the number of the present one in `path`."""
    former = _former_path(path)
    saved_at, formerly_saved_at = _saved_at(path), _saved_at(former)
    if formerly_saved_at is None:
        return NO_RECORD if saved_at is None else read_record(path)
    if saved_at is not None and saved_at >= formerly_saved_at:
        return read_record(path)
    present = NO_RECORD
    with suppress(OSError, ValueError):
        present = read_record(path)
    return Record(present.number, former.read_bytes())


def _former_path(path: Path) -> Path:
    return path.with_suffix(_FORMER_SUFFIX)


def _saved_at(path: Path) -> int | None:
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return None


def _parsed(path: Path, record: Record) -> Cursor:
    saved = json.loads(record.content)
    return Cursor(
        path,
        {name: checked_int(offset) for name, offset in saved["offsets"].items()},
        Counts.from_dict(saved["counts"]),
        _error(saved["lastError"]),
        _text(saved["lastDelivery"]),
        JobFilter.from_dict(saved["choice"]) if saved.get("choice") else None,
        {digest: checked_int(times) for digest, times in saved.get("sendings", {}).items()},
        str(saved.get("spentOn", "")),
        checked_int(saved.get("spent", 0)),
        record,
    )


def _error(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not all(isinstance(value[name], str) for name in ("at", "message")):
        raise TypeError("an error has no text")
    return dict(value)


def _text(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError(f"a text is {type(value).__name__}")
    return value
