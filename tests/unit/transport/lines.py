"""Events and journal files for the transport's tests."""

from __future__ import annotations

import itertools
import json
import os
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from sluice_agent.stats import Stats
from sluice_agent.transport.delivery.client import Connect, EndpointClient
from sluice_agent.transport.delivery.destinations import SLUICE
from sluice_agent.transport.journal.accounting import accounts, report_on
from sluice_agent.transport.journal.cursor import cursor_path, load_cursor
from sluice_agent.transport.journal.directory import SegmentName
from sluice_agent.transport.journal.line import EVENTS
from sluice_agent.transport.journal.line_selector import JobFilter

CONNECTION = str(uuid.UUID(int=7))  # the same in all processes of a test run: tests are named after lines
EVERY_END = JobFilter(("completed", "failed", "cancelled"), ("*",))
_numbers = itertools.count()


def event(number: int, filler: int = 0, **extensions: Any) -> bytes:
    """Return a valid event as a journal line, with `filler` more bytes."""
    all_extensions = {"eventId": f"event-{number}", **extensions, **({"filler": "x" * filler} if filler else {})}
    job = {"externalId": f"job-{number}", "name": "app.add", "state": "queued", "extensions": all_extensions}
    wire = {"type": "job_state_change", "timestamp": "2026-01-01T00:00:00Z", "framework": "celery"}
    return json.dumps({**wire, "connectionId": CONNECTION, "job": job}, separators=(",", ":")).encode()


def job(number: int, state: str, name: str = "app.add", **fields: Any) -> bytes:
    """Return a job's transition as a journal line."""
    extensions = {
        "eventId": f"{state}-{number}",
        "rootId": "root",
        "celeryState": "ANY",
        **fields.pop("extensions", {}),
    }
    job_fields = {"externalId": f"job-{number}", "name": name, "queue": "q", "attempt": 1, "state": state, **fields}
    wire = {"type": "job_state_change", "timestamp": "2026-01-01T00:00:00Z", "framework": "celery"}
    whole = {**wire, "connectionId": CONNECTION, "job": {**job_fields, "extensions": extensions}}
    return json.dumps(whole, separators=(",", ":")).encode()


def heartbeat(number: int, filler: int = 0) -> bytes:
    """Return a heartbeat as a journal line."""
    fields = {"eventId": f"beat-{number}", "filler": "x" * filler}
    worker = {"externalId": "w@h", "hostname": "h", "state": "heartbeat", "metadata": fields}
    wire = {"type": "worker_heartbeat", "timestamp": "2026-01-01T00:00:00Z", "framework": "celery"}
    return json.dumps({**wire, "connectionId": CONNECTION, "worker": worker}, separators=(",", ":")).encode()


def numbers_in(lines: list[bytes]) -> list[int]:
    """Return the numbers of the events in `lines`."""
    return [int(json.loads(line)["job"]["externalId"].removeprefix("job-")) for line in lines]


def new_segment_name(lane: str = EVENTS) -> str:
    """Return a segment's name, later than all before."""
    return str(SegmentName(next(_numbers), lane, 1, "00000000"))


def write_file(directory: Path, *lines: bytes, torn: bytes = b"", lane: str = EVENTS) -> str:
    """Write a finished segment, with a half-written last line if `torn`; return its name."""
    name = new_segment_name(lane)
    hidden = directory / f".{name}"  # a shipper must not meet the file while it is written
    hidden.write_bytes(b"".join(line + b"\n" for line in lines) + torn)
    hidden.rename(directory / name)
    return name


def sluice_at(url: str, key: str = "sk_test") -> Connect:
    """Return what connects a shipper to a Sluice whose batches are POSTed to `url`."""
    return partial(EndpointClient, SLUICE, url, key)


def figures(directory: Path) -> Stats:
    """Return the accounts of a directory."""
    return accounts(directory, load_cursor(cursor_path(directory, "sluice")))


def report(directory: Path, name: str) -> dict[str, Any]:
    """Return a destination's report in `status --json`; its accounts must add up."""
    result: dict[str, Any] = dict(report_on(directory, {"sluice": None, "ackly": None})["destinations"][name])
    settled = result["delivered"] + result["rejected"] + sum(result["dropped"].values())
    assert result["captured"] == settled + result["pending"]
    return result


def close_all(*descriptors: int) -> None:
    """Close descriptors as the kernel does when their process is killed."""
    for descriptor in descriptors:
        os.close(descriptor)
