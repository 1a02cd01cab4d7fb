"""``sluice-agent status``: the figures of the captured events, and the problems, on one screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import click

from sluice_agent.commands.common import find_journal
from sluice_agent.health.problems import Problem, holder_text, problems_of
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import DESTINATIONS, Destination, configured, job_filters
from sluice_agent.transport.journal.accounting import DestinationReport, Report, report_on

_WIDTH = 14  # characters of the first column


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
def status(as_json: bool) -> None:
    """Show how many events were captured, delivered or dropped, how many wait, who ships, and what is wrong.

    \b
    Exit codes, for probes:
      0  there is no problem, or no journal yet, before the first event ("exists" is false)
      1  there are problems: the last lines name each with a remedy; with --json "problems" has them by these names:
         no_shipper     events wait, and no process ships them
         shipper_stuck  events wait, and the process that ships them makes no progress
         key_refused    events wait, because the endpoint refuses the key
         undeliverable  events wait, because the endpoint can't be reached or does not accept them
         folder_full    the journal is at its limit: the oldest events are being dropped
         disk_full      the disk under the journal is nearly full
      2  the settings are malformed, or the directory can't be used
    """
    settings = Settings()
    report, problems = inspect_journal(settings)
    if as_json:
        click.echo(json.dumps({**report, "problems": [asdict(problem) for problem in problems]}))
    else:
        click.echo(render(report, problems))
    sys.exit(1 if problems else 0)


def inspect_journal(
    settings: Settings, destinations: tuple[Destination, ...] = DESTINATIONS
) -> tuple[Report, list[Problem]]:
    """Return the report on the journal of `settings` and its problems, for those of `destinations` that have a key."""
    report = report_on(find_journal(settings), job_filters(settings, destinations))
    return report, problems_of(report, configured(settings, destinations), settings.journal_max_bytes)


def render(report: Report, problems: Sequence[Problem]) -> str:
    """Return the report as text: a block for each destination, then the problems."""
    lines = [_row("journal", report["folder"])]
    if not report["exists"]:
        lines[0] += " does not exist yet: nothing has been captured"
        return "\n".join([*lines, *(_row(problem.problem, problem.what) for problem in problems)])
    if report["other_versions"]:
        lines.append(_row("not read", f"{report['other_versions']:,} of another version's files"))
    for name, destination_report in report["destinations"].items():
        lines += [_row("destination", name)] if len(report["destinations"]) > 1 else []
        lines += _destination_rows(destination_report, report["bytes"])
    return "\n".join([*lines, *(_row(problem.problem, problem.what) for problem in problems)])


def _destination_rows(report: DestinationReport, journal_bytes: int) -> list[str]:
    shipper, error = report["shipper"], report["last_error"]
    rows = [
        ("captured", f"{report['captured']:,}" + _suffix(report["skipped"], "more are not for this destination")),
        ("delivered", f"{report['delivered']:,}" + _suffix(report["duplicates"], "of them already known")),
        ("rejected", f"{report['rejected']:,}"),
        ("dropped", f"{sum(report['dropped'].values()):,}" + _reasons(report["dropped"])),
        ("pending", f"{report['pending']:,}" + _suffix(journal_bytes, "bytes")),
        ("shipped by", holder_text(shipper) if shipper else "no process"),
        ("last delivery", report["last_delivery"] or "never"),
        ("last error", f"{error['message']} ({error['at']})" if error else "none"),
    ]
    if report["spent"]:
        rows.append(("sent", f"{report['spent']['events']:,} on {report['spent']['day']} (UTC)"))
    if report["resent"]:
        rows.append(("sent twice", f"{report['resent']:,}: an answer was lost, the destination may have them twice"))
    return [_row(*row) for row in rows]


def _row(name: str, value: str) -> str:
    return f"{name:<{_WIDTH}} {value}"


def _suffix(count: int, label: str) -> str:
    return f" ({count:,} {label})" if count else ""


def _reasons(dropped: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{reason} {count:,}' for reason, count in sorted(dropped.items()))})" if dropped else ""
