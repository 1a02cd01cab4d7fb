"""Dead letters: what an endpoint refuses is kept beside the journal, with its answer, up to a size.

Their events are counted as rejected, and stay so. One that is retried is captured once more: it goes into the journal
as a new line, for the destination that refused it alone, so that the accounts add up at every moment.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sluice_agent.errors import JournalUnavailableError
from sluice_agent.transport.directory import check_directory, directory_bytes, open_private
from sluice_agent.transport.flock import close_locked, try_lock
from sluice_agent.transport.journal import Journal
from sluice_agent.transport.retention import HIGH_WATER
from sluice_agent.transport.selector import Selector

DEAD = "dead"

_NAME = re.compile(r"[0-9]{20}\.json")  # nanoseconds since 1970
_MOST_BYTES = 16_000_000  # then the oldest letters go; their events stay counted as rejected
_LONGEST_ANSWER = 10_000  # characters of it are kept
_FIRST_DESTINATION = "sluice"  # whose letters are that do not say it


@dataclass(frozen=True, slots=True)
class Letter:
    """Events that `destination` refused at once, with its answer. Where it does not say which, the batch is here.

    A line that nobody can read as JSON is here as its text.
    """

    id: str
    destination: str
    answer: str
    events: list[Any]

    @property
    def at(self) -> datetime:
        """When it was refused, in UTC."""
        return datetime.fromtimestamp(int(self.id) / 1e9, timezone.utc)

    def to_dict(self) -> dict[str, Any]:
        """The letter as a file and as a program reads it."""
        return {"destination": self.destination, "answer": self.answer, "events": self.events}


def add(directory: Path, destination: str, lines: list[bytes], answer: str) -> None:
    """Keep the events in `lines` with the `answer` that refused them. Raises OSError where that can't be done."""
    check_directory(directory)
    dead = directory / DEAD
    dead.mkdir(mode=0o700, exist_ok=True)
    before = _files(dead)
    newest = int(before[-1].stem) if before else 0  # the clock may have been set back: the order stays
    name = f"{max(time.time_ns(), newest + 1):020d}"
    letter = Letter(name, destination, answer[:_LONGEST_ANSWER], list(map(_readable, lines)))
    kept = _write(dead / f"{name}.json", json.dumps(letter.to_dict()).encode())
    for path in reversed(before):
        with suppress(FileNotFoundError):  # another destination's shipper is at it
            kept += path.stat().st_size
            if kept > _MOST_BYTES:
                path.unlink()


def letters_in(directory: Path) -> list[Letter]:
    """All dead letters, the oldest first. A file that is none is left out."""
    found = map(_read, _files(directory / DEAD))
    return [letter for letter in found if letter is not None]


def retry(directory: Path, letter: Letter, max_bytes: int) -> bool:
    """Put the events of `letter` back into the journal, of at most `max_bytes`, and remove it; False if it is gone.

    Raises `JournalUnavailableError` where the journal can't take them: the letter then stays.
    """
    path = directory / DEAD / f"{letter.id}.json"
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if not try_lock(descriptor) or not os.fstat(descriptor).st_nlink:
            return False  # another process retries it
        lines = [Selector(letter.destination).addressed(_line_of(event)) for event in letter.events]
        if (
            directory_bytes(directory) + sum(map(len, lines)) >= max_bytes * HIGH_WATER
        ):  # else what waits there would go
            raise JournalUnavailableError(f"the journal in {directory} has no room: the letter is kept")
        _put_back(Journal(directory, max_bytes), lines)
        path.unlink()
    finally:
        close_locked(descriptor)
    return True


def _readable(line: bytes) -> Any:
    """The event in `line`, or its text where that is no JSON, or nested so deeply that nobody could read it back."""
    try:
        event = json.loads(line)
        json.dumps(event, indent=2)  # as it is shown: that goes less deep than reading does
    except (ValueError, RecursionError):
        return line.decode("utf-8", "surrogateescape")
    return event


def _line_of(event: Any) -> bytes:
    if isinstance(event, str):
        return event.encode("utf-8", "surrogateescape")
    return json.dumps(event, separators=(",", ":")).encode()


def _put_back(journal: Journal, lines: list[bytes]) -> None:
    for line in lines:
        journal.append(line)
    unwritten = bool(journal.unwritten)
    journal.close()
    if unwritten:
        raise JournalUnavailableError(
            f"the journal in {journal.directory} is full or can't be written: the letter is kept"
        )


def _files(dead: Path) -> list[Path]:
    """The letters' files, the oldest first. A link, a folder or a pipe of such a name is none of them."""
    try:
        with os.scandir(dead) as entries:
            names = [
                each.name for each in entries if _NAME.fullmatch(each.name) and each.is_file(follow_symlinks=False)
            ]
    except OSError:
        return []
    return [dead / name for name in sorted(names)]


def _write(path: Path, content: bytes) -> int:
    """Make a file of `content`, whole or not at all; its size in bytes."""
    descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(descriptor, "wb") as file:
            return file.write(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _read(path: Path) -> Letter | None:
    try:
        held: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        letter = Letter(path.stem, held.get("destination", _FIRST_DESTINATION), held["answer"], held["events"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    kinds = ((letter.destination, str), (letter.answer, str), (letter.events, list))
    return letter if all(isinstance(value, kind) for value, kind in kinds) else None
