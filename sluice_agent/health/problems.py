"""What is wrong with a journal and its delivery, as `sluice-agent status` and the probes report it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sluice_agent.transport.accounting import DestinationReport, Report
from sluice_agent.transport.lock import STALLED_SECONDS
from sluice_agent.transport.retention import HIGH_WATER

_SCARCE = 16_000_000  # bytes left on the disk: four of the journal's largest files
_KEYS = {"sluice": "SLUICE_API_KEY", "ackly": "ACKLY_INGEST_KEY"}
_ADDRESSES = {"sluice": "SLUICE_API_URL", "ackly": "ACKLY_URL"}
_UWSGI = "(uWSGI: enable-threads.) Another process on this host takes over, where one is up"
_AT_ITS_LIMIT = ("429", "the daily limit")  # how the last error begins


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: its name, the destination that it is about, if any, and what to do."""

    problem: str
    destination: str | None
    what: str


def problems_of(report: Report, named: Iterable[str], most_bytes: int) -> list[Problem]:
    """What is wrong with the destinations `named` in the settings; `most_bytes` is the journal's limit."""
    found = [problem for name in named for problem in _stuck(name, report["destinations"][name])]
    if report["bytes"] >= most_bytes * HIGH_WATER:
        what = f"{report['bytes']:,} of {most_bytes:,} bytes are in use, and the oldest events are dropped"
        found.append(Problem("folder_full", None, f"{what}: mend the delivery, or raise SLUICE_JOURNAL_MAX_BYTES"))
    if report["disk_free"] < _SCARCE:
        what = f"{report['disk_free']:,} bytes are left on the journal's disk"
        found.append(Problem("disk_full", None, f"{what}: free some, or move SLUICE_STATE_DIR"))
    return found


def holder_text(shipper: Mapping[str, object]) -> str:
    return f"process {shipper.get('pid')} on {shipper.get('hostname')}"


def _stuck(name: str, one: DestinationReport) -> Iterator[Problem]:
    error, waiting = one["last_error"], f"{one['pending']:,} events wait for {name}"
    if not one["pending"]:
        return
    if one["shipper"] is None:
        what = f"{waiting} and nobody ships: is a worker, or `sluice-agent ship`, running with {_KEYS[name]}?"
        yield Problem("no_shipper", name, what)
    elif one["silent_for"] > STALLED_SECONDS:
        what = (
            f"{waiting}, and {holder_text(one['shipper'])}, which ships, has not moved for {one['silent_for']:,.0f} s"
        )
        yield Problem("shipper_stuck", name, f"{what}: is it stopped, or does it run no threads? {_UWSGI}")
    if error is not None and error["message"].startswith(("401", "403")):
        yield Problem("key_refused", name, f"{waiting}, which refuses {_KEYS[name]}: is it right, and not revoked?")
    elif error is not None and error["message"].startswith(_AT_ITS_LIMIT):
        yield Problem("undeliverable", name, f"{waiting}, whose limit is reached: they are sent when it resets")
    elif error is not None:
        yield Problem("undeliverable", name, f"{waiting}, which takes none: is it up, and is {_ADDRESSES[name]} right?")
