"""``sluice-agent status``: what became of the captured events, and what is wrong, on one screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import click

from sluice_agent.commands.common import place_of_journal
from sluice_agent.settings import Settings
from sluice_agent.transport.eviction import HIGH_WATER
from sluice_agent.transport.lock import STILL
from sluice_agent.transport.report import DestinationReport, Report, report_on
from sluice_agent.transport.shippers import destinations

_SCARCE = 16_000_000  # bytes left on the disk: four of the journal's largest files
_KEYS = {"sluice": "SLUICE_API_KEY", "ackly": "ACKLY_INGEST_KEY"}
_ADDRESSES = {"sluice": "SLUICE_API_URL", "ackly": "ACKLY_URL"}
_UWSGI = "(uWSGI: enable-threads.) Another process on this host takes over, where one is up"
_AT_ITS_LIMIT = ("429", "the daily limit")  # how the last error begins
_WIDTH = 14  # characters of the first column


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: its name, the destination that it is about, if any, and what to do."""

    problem: str
    destination: str | None
    what: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Say what became of the captured events, what waits, who ships, and what is wrong.

    \b
    Exit codes, for probes:
      0  nothing is wrong; so it is before the first event, when there is no journal yet ("exists" is false)
      1  something is: the last lines say what, and what to do; with --json it is in "problems", by these names:
         no_shipper     events wait, and no process ships them
         shipper_stuck  events wait, and the process that ships them does not move
         key_refused    events wait, because the endpoint refuses the key
         undeliverable  events wait, because the endpoint can't be reached or does not take them
         folder_full    the journal is at its limit: the oldest events are being dropped
         disk_full      the disk under the journal is nearly full
      2  the settings are malformed, or the folder can't be used
    """
    settings = Settings()
    named = destinations(settings)
    report = report_on(place_of_journal(settings), named)
    problems = problems_of(report, named, settings.journal_max_bytes)
    if as_json:
        click.echo(json.dumps({**report, "problems": [asdict(problem) for problem in problems]}))
    else:
        click.echo(sheet(report, problems))
    sys.exit(1 if problems else 0)


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


def sheet(report: Report, problems: Sequence[Problem]) -> str:
    """The report for people: a block for each destination, and what is wrong."""
    lines = [_row("journal", report["folder"])]
    if not report["exists"]:
        lines[0] += " is not there yet: nothing has been captured"
        return "\n".join([*lines, *(_row(problem.problem, problem.what) for problem in problems)])
    if report["other_versions"]:
        lines.append(_row("not read", f"{report['other_versions']:,} of another version's files"))
    for name, one in report["destinations"].items():
        lines += [_row("destination", name)] if len(report["destinations"]) > 1 else []
        lines += _block(one, report["bytes"])
    return "\n".join([*lines, *(_row(problem.problem, problem.what) for problem in problems)])


def _stuck(name: str, one: DestinationReport) -> Iterator[Problem]:
    error, waiting = one["last_error"], f"{one['pending']:,} events wait for {name}"
    if not one["pending"]:
        return
    if one["shipper"] is None:
        what = f"{waiting} and nobody ships: is a worker, or `sluice-agent ship`, running with {_KEYS[name]}?"
        yield Problem("no_shipper", name, what)
    elif one["silent_for"] > STILL:
        what = f"{waiting}, and {_named(one['shipper'])}, which ships, has not moved for {one['silent_for']:,.0f} s"
        yield Problem("shipper_stuck", name, f"{what}: is it stopped, or does it run no threads? {_UWSGI}")
    if error is not None and error["message"].startswith(("401", "403")):
        yield Problem("key_refused", name, f"{waiting}, which refuses {_KEYS[name]}: is it right, and not revoked?")
    elif error is not None and error["message"].startswith(_AT_ITS_LIMIT):
        yield Problem("undeliverable", name, f"{waiting}, whose limit is reached: they are sent when it resets")
    elif error is not None:
        yield Problem("undeliverable", name, f"{waiting}, which takes none: is it up, and is {_ADDRESSES[name]} right?")


def _block(one: DestinationReport, size: int) -> list[str]:
    shipper, error = one["shipper"], one["last_error"]
    rows = [
        ("captured", f"{one['captured']:,}" + _aside(one["skipped"], "more are not for it")),
        ("delivered", f"{one['delivered']:,}" + _aside(one["duplicates"], "of them known already")),
        ("rejected", f"{one['rejected']:,}"),
        ("dropped", f"{sum(one['dropped'].values()):,}" + _reasons(one["dropped"])),
        ("pending", f"{one['pending']:,}" + _aside(size, "bytes")),
        ("shipped by", _named(shipper) if shipper else "nobody"),
        ("last delivery", one["last_delivery"] or "never"),
        ("last error", f"{error['message']} ({error['at']})" if error else "none"),
    ]
    if one["spent"]:
        rows.append(("sent", f"{one['spent']['events']:,} on {one['spent']['day']} (UTC)"))
    if one["resent"]:
        rows.append(("sent twice", f"{one['resent']:,}: an answer was lost, and they may be there twice"))
    return [_row(*row) for row in rows]


def _named(shipper: Mapping[str, object]) -> str:
    return f"process {shipper.get('pid')} on {shipper.get('hostname')}"


def _row(name: str, value: str) -> str:
    return f"{name:<{_WIDTH}} {value}"


def _aside(count: int, what: str) -> str:
    return f" ({count:,} {what})" if count else ""


def _reasons(dropped: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{reason} {count:,}' for reason, count in sorted(dropped.items()))})" if dropped else ""
