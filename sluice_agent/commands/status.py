"""``sluice-agent status``: what became of the captured events, and what is wrong, on one screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import click

from sluice_agent.commands.common import find_journal
from sluice_agent.health.problems import Problem, holder_text, problems_of
from sluice_agent.settings import Settings
from sluice_agent.transport.accounting import DestinationReport, Report, report_on
from sluice_agent.transport.shippers import destinations

_WIDTH = 14  # characters of the first column


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
    report = report_on(find_journal(settings), named)
    problems = problems_of(report, named, settings.journal_max_bytes)
    if as_json:
        click.echo(json.dumps({**report, "problems": [asdict(problem) for problem in problems]}))
    else:
        click.echo(render(report, problems))
    sys.exit(1 if problems else 0)


def render(report: Report, problems: Sequence[Problem]) -> str:
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


def _block(one: DestinationReport, size: int) -> list[str]:
    shipper, error = one["shipper"], one["last_error"]
    rows = [
        ("captured", f"{one['captured']:,}" + _aside(one["skipped"], "more are not for it")),
        ("delivered", f"{one['delivered']:,}" + _aside(one["duplicates"], "of them known already")),
        ("rejected", f"{one['rejected']:,}"),
        ("dropped", f"{sum(one['dropped'].values()):,}" + _reasons(one["dropped"])),
        ("pending", f"{one['pending']:,}" + _aside(size, "bytes")),
        ("shipped by", holder_text(shipper) if shipper else "nobody"),
        ("last delivery", one["last_delivery"] or "never"),
        ("last error", f"{error['message']} ({error['at']})" if error else "none"),
    ]
    if one["spent"]:
        rows.append(("sent", f"{one['spent']['events']:,} on {one['spent']['day']} (UTC)"))
    if one["resent"]:
        rows.append(("sent twice", f"{one['resent']:,}: an answer was lost, and they may be there twice"))
    return [_row(*row) for row in rows]


def _row(name: str, value: str) -> str:
    return f"{name:<{_WIDTH}} {value}"


def _aside(count: int, what: str) -> str:
    return f" ({count:,} {what})" if count else ""


def _reasons(dropped: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{reason} {count:,}' for reason, count in sorted(dropped.items()))})" if dropped else ""
