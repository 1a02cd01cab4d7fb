"""Dead letters: events that an endpoint refuses are kept beside the journal, with its answer, up to a size.

These events are counted as rejected, and stay so. One that is retried is captured once more: it is written to the
journal as a new line, only for the destination that refused it, so that the accounts add up at every moment.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sluice_agent.errors import JournalUnavailableError
from sluice_agent.transport.journal.directory import check_directory, directory_bytes, open_private
from sluice_agent.transport.journal.flock import close_locked, try_lock
from sluice_agent.transport.journal.line import address
from sluice_agent.transport.journal.retention import HIGH_WATER
from sluice_agent.transport.journal.writer import JournalWriter

DEAD = "dead"

_NAME = re.compile(r"[0-9]{20}\.json")  # nanoseconds since 1970
_MAX_BYTES = 16_000_000  # beyond it the oldest letters are removed; their events stay counted as rejected
_MAX_ANSWER = 10_000  # characters of the answer that are kept


@dataclass(frozen=True, slots=True)
class Letter:
    """Events that `destination` refused in one request, with its answer: the batch, where that names none of them.

    A line that is not valid JSON is kept as its text.
    """

    id: str
    destination: str
    answer: str
    events: list[Any]

    @property
    def at(self) -> datetime:
        """The time of the refusal, in UTC."""
        return datetime.fromtimestamp(int(self.id) / 1e9, timezone.utc)

    def to_dict(self) -> dict[str, Any]:
        """Return the letter as JSON values: the format of its file and of the command's output."""
        return {"destination": self.destination, "answer": self.answer, "events": self.events}


def add(
    directory: Path,
    destination: str,
    lines: list[bytes],
    answer: str,
    max_bytes: int = _MAX_BYTES,
    clock: Callable[[], int] = time.time_ns,
) -> None:
    """Keep the events in `lines` with the `answer` that refused them. Raises OSError where that can't be done."""
    check_directory(directory)
    dead = directory / DEAD
    dead.mkdir(mode=0o700, exist_ok=True)
    older = _letter_paths(dead)
    newest = int(older[-1].stem) if older else 0  # the clock may have been set back: the order stays
    name = f"{max(clock(), newest + 1):020d}"
    letter = Letter(name, destination, answer[:_MAX_ANSWER], list(map(_readable, lines)))
    kept_bytes = _write(dead / f"{name}.json", json.dumps(letter.to_dict()).encode())
    for path in reversed(older):
        with suppress(FileNotFoundError):  # another destination's shipper has just removed it
            kept_bytes += path.stat().st_size
            if kept_bytes > max_bytes:
                path.unlink()


def letters_in(directory: Path) -> list[Letter]:
    """Return all dead letters, the oldest first. A file that is not a letter is left out."""
    letters = map(_read, _letter_paths(directory / DEAD))
    return [letter for letter in letters if letter is not None]


def retry(directory: Path, letter: Letter, max_bytes: int) -> bool:
    """Write the events of `letter` to the journal, of at most `max_bytes`, and remove it; False if it is gone.

    Raises `JournalUnavailableError` where the journal can't take them: the letter is then kept.
    """
    path = directory / DEAD / f"{letter.id}.json"
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        if not try_lock(descriptor) or not os.fstat(descriptor).st_nlink:
            return False  # another process retries it
        lines = [address(_line_of(event), letter.destination) for event in letter.events]
        # Beyond the high-water mark, pending events would be evicted for these.
        if directory_bytes(directory) + sum(map(len, lines)) >= max_bytes * HIGH_WATER:
            raise JournalUnavailableError(f"the journal in {directory} has no room: the letter is kept")
        _write_to_journal(JournalWriter(directory, max_bytes), lines)
        path.unlink()
    finally:
        close_locked(descriptor)
    return True


def _readable(line: bytes) -> Any:
    """Return the event in `line`, or its text where that is not JSON, or nested too deeply to be written again."""
    try:
        event = json.loads(line)
        json.dumps(event, indent=2)  # as it is printed: the limit of nesting is lower there than for reading
    except (ValueError, RecursionError):
        return line.decode("utf-8", "surrogateescape")
    return event


def _line_of(event: Any) -> bytes:
    if isinstance(event, str):
        return event.encode("utf-8", "surrogateescape")
    return json.dumps(event, separators=(",", ":")).encode()


def _write_to_journal(journal: JournalWriter, lines: list[bytes]) -> None:
    for line in lines:
        journal.append(line)
    is_incomplete = bool(journal.unwritten)
    journal.close()
    if is_incomplete:
        raise JournalUnavailableError(
            f"the journal in {journal.directory} is full or can't be written: the letter is kept"
        )


def _letter_paths(dead: Path) -> list[Path]:
    """Return the letters' paths, the oldest first. A link, a directory or a pipe of such a name is left out."""
    try:
        with os.scandir(dead) as entries:
            names = [
                entry.name for entry in entries if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            ]
    except OSError:
        return []
    return [dead / name for name in sorted(names)]


def _write(path: Path, content: bytes) -> int:
    """Create a file of `content`, whole or not at all; return its size in bytes."""
    descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(descriptor, "wb") as file:
            return file.write(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _read(path: Path) -> Letter | None:
    try:
        values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        letter = Letter(path.stem, values["destination"], values["answer"], values["events"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    expected = ((letter.destination, str), (letter.answer, str), (letter.events, list))
    return letter if all(isinstance(value, type_) for value, type_ in expected) else None
