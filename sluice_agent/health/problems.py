"""Problems of a journal and its delivery, as `sluice-agent status` and the probes report them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sluice_agent.transport.delivery.destinations.base import Destination
from sluice_agent.transport.journal.accounting import DestinationReport, Report
from sluice_agent.transport.journal.retention import HIGH_WATER
from sluice_agent.transport.journal.ship_lock import STALLED_SECONDS

_MIN_DISK_FREE = 16_000_000  # bytes: four of the journal's largest files
_UWSGI = "(uWSGI: enable-threads.) Another process on this host takes over, if one is running"
_LIMIT_ERRORS = ("429", "the daily limit")  # prefixes of the last error


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem: its name, the destination concerned, if any, and a sentence with a remedy."""

    problem: str
    destination: str | None
    what: str


def problems_of(report: Report, destinations: Iterable[Destination], max_bytes: int) -> list[Problem]:
    """Return the problems of the journal, limited to `max_bytes`, and of `destinations`, those in the settings."""
    problems = [
        problem
        for destination in destinations
        for problem in _destination_problems(destination, report["destinations"][destination.name])
    ]
    if report["bytes"] >= max_bytes * HIGH_WATER:
        what = f"{report['bytes']:,} of {max_bytes:,} bytes are used, and the oldest events are dropped"
        problems.append(Problem("folder_full", None, f"{what}: repair the delivery or raise SLUICE_JOURNAL_MAX_BYTES"))
    if report["disk_free"] < _MIN_DISK_FREE:
        what = f"{report['disk_free']:,} bytes are left on the journal's disk"
        problems.append(Problem("disk_full", None, f"{what}: free some, or move SLUICE_STATE_DIR"))
    return problems


def holder_text(shipper: Mapping[str, object]) -> str:
    """Return a description of `shipper`, the process that ships."""
    return f"process {shipper.get('pid')} on {shipper.get('hostname')}"


def _destination_problems(destination: Destination, report: DestinationReport) -> Iterator[Problem]:
    name, key = destination.name, destination.key_variable
    error, waiting = report["last_error"], f"{report['pending']:,} events wait for {name}"
    if not report["pending"]:
        return
    if report["shipper"] is None:
        what = f"{waiting} and no process ships them: is a worker, or `sluice-agent ship`, running with {key}?"
        yield Problem("no_shipper", name, what)
    elif report["silent_for"] > STALLED_SECONDS:
        holder, seconds = holder_text(report["shipper"]), report["silent_for"]
        what = f"{waiting}, and {holder}, which ships them, has made no progress for {seconds:,.0f} s"
        yield Problem("shipper_stuck", name, f"{what}: is it stopped, or does it run no threads? {_UWSGI}")
    if error is not None and error["message"].startswith(("401", "403")):
        yield Problem("key_refused", name, f"{waiting}, which refuses {key}: is it right, and not revoked?")
    elif error is not None and error["message"].startswith(_LIMIT_ERRORS):
        yield Problem("undeliverable", name, f"{waiting}, whose limit is reached: they are sent when it resets")
    elif error is not None:
        what = f"{waiting}, which accepts none: is it up, and is {destination.url_variable} right?"
        yield Problem("undeliverable", name, what)
