"""Files that are torn, zeroed, mixed up or foreign: they are skipped, counted where possible, and never a loop."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.transport.journal.slots import Record, read_record, write_record
from tests.faults.host import Host
from tests.faults.recording import EVENTS, NAME, journal_file

MAX_SECONDS = 3.0  # of processor time that a command may use for a directory of 20 kB


def add(content: bytes) -> Callable[[Path], None]:
    """Append bytes to the segment."""

    def damage(directory: Path) -> None:
        with journal_file(directory).open("ab") as file:
            file.write(content)

    return damage


def insert(content: bytes) -> Callable[[Path], None]:
    """Insert bytes in the middle of the segment, between two lines."""

    def damage(directory: Path) -> None:
        path = journal_file(directory)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[: EVENTS // 2], content, *lines[EVENTS // 2 :]]))

    return damage


def plant(name: str, content: bytes) -> Callable[[Path], None]:
    """Add another file to the directory."""

    def damage(directory: Path) -> None:
        (directory / name).write_bytes(content)

    return damage


def plant_a_link(directory: Path) -> None:
    """Add a segment that is a link to a foreign file."""
    elsewhere = directory.parent / "elsewhere"
    elsewhere.write_bytes(b"foreign\n")
    (directory / "00000000000000000001-events-1-00000000.v1.ndjson").symlink_to(elsewhere)


def plant_a_directory(directory: Path) -> None:
    """Add a directory with the name of a segment."""
    (directory / "00000000000000000001-events-1-00000000.v1.ndjson").mkdir()


def plant_a_pipe(directory: Path) -> None:
    """Add a named pipe with the name of a segment: opening it waits for a writer."""
    os.mkfifo(directory / "00000000000000000001-events-1-00000000.v1.ndjson")


TORN = b'{"type":"job_state_change","timestamp":"2026-01-01T00:0'
NEW = "99999999999999999999-events-1-00000000.v1.ndjson"
DAMAGES = {
    "nothing": (lambda _: None, 0),
    "a torn last line": (add(TORN), 1),
    "a torn last line of zeros": (add(bytes(4_096)), 1),
    "a file of zeros": (plant(NEW, bytes(8_192)), 1),
    "a file of empty lines": (plant(NEW, b"\n" * 3), 3),
    "an empty file": (plant(NEW, b""), 0),
    "a line of binary rubbish": (insert(bytes(byte for byte in range(256) if byte != 10) + b"\n"), 1),
    "a block of zeros between two lines": (insert(bytes(4_096) + b"\n"), 1),
    "half a line in the middle": (insert(TORN + b"\n"), 1),
    "a line of three megabytes": (insert(b"x" * 3_000_000 + b"\n"), 1),
    "an invalid count of drops": (insert(b'{"dropped":["many"]}\n'), 1),
    "a file of an older version": (plant(NEW.replace("v1", "v0"), TORN + b"\n"), 0),
    "a file of a newer version": (plant(NEW.replace("v1", "v2"), TORN + b"\n"), 0),
    "a foreign file": (plant("notes.txt", b"do not read\n"), 0),
    "a draft": (plant(f".{NEW}", TORN), 0),
    "a link": (plant_a_link, 0),
    "a directory": (plant_a_directory, 0),
    "a pipe": (plant_a_pipe, 0),
}
"""The damage to a journal, and the number of lines that must be counted as corrupt."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_lines_are_counted_and_the_rest_delivered(recorded: Host, damage: str) -> None:
    """Without it one power cut, or one foreign file, ends the delivery from that host for good."""
    apply, corrupt = DAMAGES[damage]
    apply(recorded.journal)
    assert cost_of(recorded.ship_once().logs()) < MAX_SECONDS
    report = recorded.balanced()
    assert (report["delivered"], report["pending"], report["dropped"].get("corrupt", 0)) == (EVENTS, 0, corrupt)
    assert len(recorded.endpoint.events) == EVENTS
    assert [request.status for request in recorded.endpoint.requests] == [200]
    assert recorded.files() == []


def test_a_process_that_flushes_does_not_wait_for_a_planted_link(host: Host) -> None:
    """Without it a link that another user planted makes every `flush()` use its whole timeout."""
    host.publish(1)
    plant_a_link(host.journal)
    code = "from tests.faults.app import noop; import sluice_agent; noop.delay(); assert sluice_agent.flush(15)"
    assert host.start("-c", code).wait() == 0
    assert host.settled()["delivered"] == 2


def cursor_of(host: Host) -> Path:
    """Return the path of the cursor."""
    return host.journal / "cursor-sluice.v1.slots"


def truncate(host: Host) -> None:
    """Leave the beginning of the cursor."""
    cursor_of(host).write_bytes(cursor_of(host).read_bytes()[:100])


def remove(host: Host) -> None:
    """Remove the cursor."""
    cursor_of(host).unlink()


def fill(content: bytes) -> Callable[[Host], None]:
    """Replace the content of the cursor."""
    return lambda host: cursor_of(host).write_bytes(content) and None


def past_the_end(host: Host) -> None:
    """Set offsets behind the end of the segment."""
    change(host, lambda saved: saved.update(offsets=dict.fromkeys(host.files(), 10**9)))


def negative(host: Host) -> None:
    """Set offsets before the beginning."""
    change(host, lambda saved: saved.update(offsets=dict.fromkeys(host.files(), -7)))


def in_the_middle_of_a_line(host: Host) -> None:
    """Set offsets that no shipper writes."""
    change(host, lambda saved: saved.update(offsets=dict.fromkeys(host.files(), 7)))


def a_link(host: Host) -> None:
    """Replace the cursor by a link to another file."""
    elsewhere = host.journal.parent / "elsewhere"
    elsewhere.write_bytes(b"{}")
    cursor_of(host).unlink()
    cursor_of(host).symlink_to(elsewhere)


def a_directory(host: Host) -> None:
    """Replace the cursor by a directory."""
    cursor_of(host).unlink()
    cursor_of(host).mkdir()


def unreadable_counts(host: Host) -> None:
    """Set counts of the wrong type."""
    change(host, lambda saved: saved.update(counts={"delivered": "many"}))


def change(host: Host, edit: Callable[[dict[str, Any]], None]) -> None:
    record = read_record(cursor_of(host))
    saved = json.loads(record.content)
    edit(saved)
    write_record(cursor_of(host), Record(record.number + 1, json.dumps(saved).encode()))


CURSORS: dict[str, Callable[[Host], None]] = {
    "truncated": truncate,
    "missing": remove,
    "empty": fill(b""),
    "zeros": fill(bytes(512)),
    "rubbish": fill(bytes(range(256))),
    "another JSON": fill(b"[1, 2, 3]"),
    "deep JSON": fill(b"[" * 100_000),
    "counts of another type": unreadable_counts,
    "past the end": past_the_end,
    "negative": negative,
    "in the middle of a line": in_the_middle_of_a_line,
    "a link": a_link,
    "a directory": a_directory,
}


@pytest.mark.parametrize("fault", CURSORS)
def test_a_cursor_that_is_wrong_loses_nothing(recorded: Host, fault: str) -> None:
    """Without it a disk that was full at the wrong moment makes the shipper skip events, or fail at each start."""
    path = recorded.journal / NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: EVENTS // 2]))
    with path.open("ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)  # like the process that goes on writing
        recorded.ship_once()
        assert len(recorded.endpoint.events) == EVENTS // 2
        assert cursor_of(recorded).exists()
        CURSORS[fault](recorded)
        writer.write(b"".join(lines[EVENTS // 2 :]))
    assert cost_of(recorded.ship_once().logs()) < MAX_SECONDS
    report = recorded.balanced()
    assert report["pending"] == 0
    assert sum(report["dropped"].values()) == (fault == "in the middle of a line")
    assert len(recorded.endpoint.events) == EVENTS
    assert recorded.files() == []


def test_files_of_another_version_are_kept(recorded: Host) -> None:
    """Without it an upgrade deletes events that the older version had not sent, and would send after a downgrade."""
    kept = recorded.journal / NAME.replace("v1", "v0")
    shutil.copy(recorded.journal / NAME, kept)
    cursor = recorded.journal / "cursor-sluice.v0.json"
    cursor.write_text("{}")
    shipper = recorded.ship_once()
    assert shipper.logs().count("1 of another version's files") == 1
    report = recorded.balanced()
    assert report["delivered"] == EVENTS == len(recorded.endpoint.events)
    assert report["other_versions"] == 1
    command = recorded.start("-m", "tests.faults.command", "status")
    assert command.wait() == 0
    assert "not read       1 of" in command.logs()
    assert kept.exists()
    assert cursor.exists()


def cost_of(log: str) -> float:
    """Return the processor time that a command printed, in seconds."""
    return float(log.rpartition("processor seconds: ")[2])
