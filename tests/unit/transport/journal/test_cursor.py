"""A destination's cursor: it survives everything, or the journal is read again."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.stats import Counts
from sluice_agent.transport.journal.accounting import report_on
from sluice_agent.transport.journal.cursor import Cursor, cursor_path, cursors_in, load_cursor
from sluice_agent.transport.journal.dead_letters import add
from sluice_agent.transport.journal.slots import Record, read_record, write_record

COUNTS = Counts(delivered=5, duplicates=2, rejected=1, dropped=Counter(disk=3))
INFINITE = math.inf  # in a file: 1e999


def a_cursor(directory: Path, offset: int = 10) -> Cursor:
    path = cursor_path(directory, "sluice")
    return Cursor(path, {"a.v1.ndjson": offset}, COUNTS, {"at": "now", "message": "503"}, "2026-01-01T00:00:00Z")


def test_a_cursor_comes_back_as_it_was_saved(directory: Path) -> None:
    """A worker that is deployed anew goes on where the last one stopped, with the same figures."""
    saved = a_cursor(directory)
    saved.save()
    assert load_cursor(saved.path) == saved
    assert cursors_in(directory) == [saved]


def test_a_directory_in_its_place_is_set_aside(directory: Path) -> None:
    """Without it no figure could be kept there ever again, nor a file removed; and what lies in it is not ours."""
    cursor = a_cursor(directory)
    cursor.path.mkdir()
    (cursor.path / "content").touch()
    cursor.save()
    assert load_cursor(cursor.path) == cursor
    assert cursors_in(directory) == [cursor]
    [kept] = directory.glob("cursor-sluice.*.directory-*")
    assert (kept / "content").exists()


def test_where_there_is_none_a_fresh_one_begins(directory: Path) -> None:
    """The first start on a host reads everything that is there."""
    path = cursor_path(directory, "sluice")
    assert load_cursor(path) == Cursor(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"\xff", b"{", b"[]", b"null", b"{}", b'{"offsets":[],"counts":{}}', b'{"offsets":{"a":"x"}}'],
)
def test_one_that_cannot_be_understood_is_begun_anew(
    directory: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """After a power cut the file may hold zeros: the shipper sends again, and logs that, rather than stop."""
    path = cursor_path(directory, "sluice")
    path.write_bytes(content)
    assert load_cursor(path) == Cursor(path)
    assert "is not valid" in caplog.text


@pytest.mark.parametrize(
    "odd",
    [
        {"offsets": {"a.v1.ndjson": INFINITE}},
        {"offsets": {"a.v1.ndjson": "10"}},
        {"offsets": {"a.v1.ndjson": -1}},
        {"offsets": {"a.v1.ndjson": True}},
        {"spent": INFINITE},
        {"spent": -5},
        {"sendings": {"mark": -1}},
        {"lastError": "x"},
        {"lastError": {"message": "503"}},
        {"lastError": {"at": "now", "message": None}},
        {"lastDelivery": 7},
        *(
            {"counts": {**COUNTS.to_dict(), **odd}}
            for odd in ({"delivered": INFINITE}, {"taken": -2}, {"taken": 2**54})
        ),
        *({"counts": {**COUNTS.to_dict(), "dropped": dropped}} for dropped in ({"disk": "1"}, {"disk": -1}, "disk")),
    ],
)
def test_one_with_an_odd_value_is_begun_anew(
    directory: Path, odd: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A cursor that a user edits must not make `flush()` or `status` raise, nor stop the shipper."""
    saved = a_cursor(directory)
    saved.save()
    record = read_record(saved.path)
    content = json.dumps({**json.loads(record.content), **odd}).replace("Infinity", "1e999")
    write_record(saved.path, Record(record.number + 1, content.encode()))
    assert load_cursor(saved.path) == Cursor(saved.path)
    assert "is not valid" in caplog.text
    assert report_on(directory, {"sluice": None})["last_error"] is None


def test_a_cursor_is_private_and_leaves_no_draft(directory: Path) -> None:
    """The last error may quote the endpoint's text about a task."""
    saved = a_cursor(directory)
    saved.save()
    assert [path.name for path in directory.iterdir()] == [saved.path.name]
    assert saved.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("length", [0, 20, 60])
def test_a_save_that_fails_leaves_the_old_one(directory: Path, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk must not cost the counts of everything that was ever delivered."""
    cursor = a_cursor(directory, 10)
    cursor.save()
    cursor.offsets["a.v1.ndjson"] = 20
    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda descriptor, text, start: real(descriptor, text[:length], start))
        with pytest.raises(OSError, match="No space left"):
            cursor.save()
    assert load_cursor(cursor.path).offsets == {"a.v1.ndjson": 10}
    cursor.save()
    assert load_cursor(cursor.path).offsets == {"a.v1.ndjson": 20}


def test_one_of_an_earlier_version_is_continued_and_stays_there_for_it(directory: Path) -> None:
    """An upgrade must go on where the earlier version stopped, and a return to that one must find its own cursor."""
    former = save_in_earlier_version(directory, 10)
    cursor = load_cursor(cursor_path(directory, "sluice"))
    assert cursor == a_cursor(directory, 10)
    assert cursors_in(directory) == [cursor]
    content = former.read_bytes()
    cursor.offsets["a.v1.ndjson"] = 20
    cursor.save()
    assert load_cursor(cursor.path).offsets == {"a.v1.ndjson": 20}
    assert cursors_in(directory) == [cursor]
    assert former.read_bytes() == content


def test_an_earlier_version_that_has_run_since_is_continued(directory: Path) -> None:
    """An upgrade that was rolled back, and is made again, must not send what the earlier version has delivered."""
    cursor = a_cursor(directory, 10)
    cursor.save()
    former = save_in_earlier_version(directory, 30)
    later = cursor.path.stat().st_mtime_ns + 1_000_000
    os.utime(former, ns=(later, later))
    cursor = load_cursor(cursor.path)
    assert cursor.offsets == {"a.v1.ndjson": 30}
    assert cursor.saved_at() == later
    cursor.offsets["a.v1.ndjson"] = 40
    cursor.save()
    os.utime(cursor.path, ns=(later + 1, later + 1))
    assert load_cursor(cursor.path).offsets == {"a.v1.ndjson": 40}


def save_in_earlier_version(directory: Path, offset: int) -> Path:
    """Write a cursor as version 1 of the file was, and return its path."""
    path = directory / "cursor-sluice.v1.json"
    saved = a_cursor(directory, offset)
    path.write_text(
        json.dumps(
            {
                "offsets": saved.offsets,
                "counts": saved.counts.to_dict(),
                "lastError": saved.last_error,
                "lastDelivery": saved.last_delivery,
            }
        )
    )
    return path


def test_a_planted_link_is_not_followed(directory: Path) -> None:
    """A user who can write into the directory must not be able to have another file of this user overwritten."""
    victim = directory.parent / "victim"
    victim.write_text("precious")
    saved = a_cursor(directory)
    (directory / f".{saved.path.name}.{os.getpid()}").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        saved.save()
    assert victim.read_text() == "precious"


def test_it_is_not_saved_into_a_directory_that_is_not_ours_any_more(directory: Path, tmp_path: Path) -> None:
    """The directory was removed during a delivery, and replaced by a link to another user's."""
    cursor = Cursor(cursor_path(directory, "sluice"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    directory.rmdir()
    directory.symlink_to(elsewhere)
    with pytest.raises(PermissionError, match="symbolic link"):
        cursor.save()
    with pytest.raises(PermissionError, match="symbolic link"):
        add(directory, "sluice", [b'{"secret":1}'], "400")
    assert not list(elsewhere.iterdir())
