"""Events and journal files for the transport's tests."""

from __future__ import annotations

import itertools
import json
import os
import uuid
from pathlib import Path
from typing import Any

from sluice_agent.stats import Stats
from sluice_agent.transport.accounting import accounts, report_on
from sluice_agent.transport.cursor import cursor_path, load_cursor
from sluice_agent.transport.directory import EVENTS, SUFFIX
from sluice_agent.transport.selector import JobFilter

CONNECTION = str(uuid.UUID(int=7))  # the same in all processes of a test run: tests are named after lines
EVERY_END = JobFilter(("completed", "failed", "cancelled"), ("*",))
_numbers = itertools.count()


def event(number: int, filler: int = 0, **extensions: Any) -> bytes:
    """A sound event as the journal has it, with `filler` more bytes."""
    told = {"eventId": f"event-{number}", **extensions, **({"filler": "x" * filler} if filler else {})}
    job = {"externalId": f"job-{number}", "name": "app.add", "state": "queued", "extensions": told}
    wire = {"type": "job_state_change", "timestamp": "2026-01-01T00:00:00Z", "framework": "celery"}
    return json.dumps({**wire, "connectionId": CONNECTION, "job": job}, separators=(",", ":")).encode()


def job(number: int, state: str, name: str = "app.add", **fields: Any) -> bytes:
    """A transition of a job as the journal has it."""
    extensions = {
        "eventId": f"{state}-{number}",
        "rootId": "root",
        "celeryState": "ANY",
        **fields.pop("extensions", {}),
    }
    told = {"externalId": f"job-{number}", "name": name, "queue": "q", "attempt": 1, "state": state, **fields}
    wire = {"type": "job_state_change", "timestamp": "2026-01-01T00:00:00Z", "framework": "celery"}
    whole = {**wire, "connectionId": CONNECTION, "job": {**told, "extensions": extensions}}
    return json.dumps(whole, separators=(",", ":")).encode()


def heartbeat(number: int, filler: int = 0) -> bytes:
    """A heartbeat as the journal has it."""
    about = {"eventId": f"beat-{number}", "filler": "x" * filler}
    worker = {"externalId": "w@h", "hostname": "h", "state": "heartbeat", "metadata": about}
    wire = {"type": "worker_heartbeat", "timestamp": "2026-01-01T00:00:00Z", "framework": "celery"}
    return json.dumps({**wire, "connectionId": CONNECTION, "worker": worker}, separators=(",", ":")).encode()


def numbers_in(lines: list[bytes]) -> list[int]:
    """The numbers of the events in `lines`."""
    return [int(json.loads(line)["job"]["externalId"].removeprefix("job-")) for line in lines]


def name_of_a_file(lane: str = EVENTS) -> str:
    """A name as a writer's file has it; each is later than the one before."""
    return f"{next(_numbers):020d}-{lane}-1-00000000{SUFFIX}"


def write_file(directory: Path, *lines: bytes, torn: bytes = b"", lane: str = EVENTS) -> str:
    """A file of a writer that is gone, with a half-written last line; its name."""
    name = name_of_a_file(lane)
    hidden = directory / f".{name}"  # a shipper must not meet the file while it is written
    hidden.write_bytes(b"".join(line + b"\n" for line in lines) + torn)
    hidden.rename(directory / name)
    return name


def figures(directory: Path) -> Stats:
    """The accounts of a folder."""
    return accounts(directory, load_cursor(cursor_path(directory, "sluice")))


def report(directory: Path, name: str) -> dict[str, Any]:
    """What `status --json` says of a destination, after its accounts were found to add up."""
    found: dict[str, Any] = dict(report_on(directory, {"sluice": None, "ackly": None})["destinations"][name])
    settled = found["delivered"] + found["rejected"] + sum(found["dropped"].values())
    assert found["captured"] == settled + found["pending"]
    return found


def without_ceremony(*descriptors: int) -> None:
    """Close descriptors as the kernel does when their process is killed."""
    for descriptor in descriptors:
        os.close(descriptor)
