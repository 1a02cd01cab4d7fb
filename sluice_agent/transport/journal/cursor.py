"""A destination's cursor: its offset in each file of the journal, and the counts of the events before those offsets.

Offsets and counts are one file, replaced as a whole, so that they agree at every moment and across crashes.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sluice_agent.log import warn_limited
from sluice_agent.stats import Counts, checked_int
from sluice_agent.transport.journal.directory import FORMAT, check_directory, open_private
from sluice_agent.transport.journal.line_selector import JobFilter, Selector


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
    _saved_stat: os.stat_result | None = field(default=None, compare=False, repr=False)

    @property
    def destination(self) -> str:
        """The name of the destination."""
        return self.path.name.removeprefix("cursor-").partition(".")[0]

    @property
    def selector(self) -> Selector:
        """The selector of the lines that the destination takes."""
        return Selector(self.destination, self.job_filter)

    def save(self) -> None:
        """Replace the file. Raises OSError where that can't be done: the old file then stays valid."""
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
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        descriptor = open_private(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            saved_stat = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        try:
            draft.replace(self.path)
        except IsADirectoryError:  # it keeps its content, under a name that is no cursor's
            self.path.rename(self.path.with_name(f"{self.path.name}.directory-{secrets.token_hex(4)}"))
            draft.replace(self.path)
        self._saved_stat = saved_stat

    def is_unchanged(self) -> bool:
        """Return whether the file is the one that this object saved last.

        A former shipper that was suspended just before it saved may replace it by its own, once.
        """
        try:
            return self._saved_stat is not None and os.path.samestat(self._saved_stat, self.path.stat())
        except OSError:
            return False


def cursor_path(directory: Path, destination: str) -> Path:
    """Return the path of the cursor of `destination`."""
    return directory / f"cursor-{destination}.{FORMAT}.json"


def cursors_in(directory: Path) -> list[Cursor]:
    """Return the cursors of all destinations."""
    return [load_cursor(path) for path in sorted(directory.glob(f"cursor-*.{FORMAT}.json"))]


def load_cursor(path: Path) -> Cursor:
    """Return the cursor in `path`; a fresh one where the file is missing or not valid.

    Reading again from the beginning loses nothing: the endpoint skips what it has.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
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
        )
    except FileNotFoundError:
        return Cursor(path)
    except (OSError, RecursionError, ValueError, TypeError, KeyError, AttributeError) as error:
        warn_limited(
            "cursor", "The cursor %s is not valid (%s): what is left in the journal is sent again.", path, error
        )
        return Cursor(path)


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
