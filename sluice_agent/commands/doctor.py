"""``sluice-agent doctor``: check everything that delivery depends on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict

import click

from sluice_agent.doctor.endpoints import check_endpoint
from sluice_agent.doctor.findings import Finding, Level, fault
from sluice_agent.doctor.host import check_folder, check_settings, check_shipper
from sluice_agent.doctor.jobs_queue import check_jobs_queue
from sluice_agent.errors import ConfigError
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import DESTINATIONS, Destination

_TODO = "correct the cause, and run `sluice-agent doctor` again"


@click.command()
@click.option(
    "--app", "-A", metavar="NAME", help="Also check this Celery app, as in `celery -A NAME`: its broker and settings."
)
@click.option("--send", is_flag=True, help="At the end send one marked event, and wait until it has arrived.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object per line.")
def doctor(app: str | None, send: bool, as_json: bool) -> None:
    """Check the settings, the keys, the endpoints, the clock, the journal's directory, and a Celery app.

    Print a remedy for each problem. No event is sent without --send. Run it where the worker runs: as the same user, in
    the same environment.

    \b
    Exit codes:
      0  events can be captured and delivered; there may be warnings
      1  there is a fault: events can't be captured or delivered
    """
    findings = []
    for finding in _all_findings(app, send=send):
        findings.append(finding)
        click.echo(json.dumps(asdict(finding)) if as_json else _line(finding))
    sys.exit(1 if any(finding.level is Level.FAULT for finding in findings) else 0)


def findings_on(
    settings: Settings, app: str | None = None, destinations: tuple[Destination, ...] = DESTINATIONS
) -> Iterator[Finding]:
    """Yield what every check finds: of the settings and this host, of the endpoints, of the queue of the jobs API, and
    of the Celery app `app`."""
    yield from _guarded("settings", check_settings(settings, destinations))
    yield from _guarded("folder", check_folder(settings))
    yield from _guarded("shipper", check_shipper(settings, destinations))
    for destination in destinations:
        yield from _guarded(destination.name, check_endpoint(destination, settings))
    yield from _guarded("jobs", check_jobs_queue(settings))
    if app is not None:
        from sluice_agent.doctor.celery_app import check_app  # noqa: PLC0415 - Celery is slow to import

        yield from _guarded("app", check_app(app))


def _all_findings(app: str | None, *, send: bool) -> Iterator[Finding]:
    try:
        settings = Settings()
    except ConfigError as error:
        yield fault("settings", str(error), _TODO)
        return
    yield from findings_on(settings, app)
    if send:
        from sluice_agent.commands.marked_event import send_marked_event  # noqa: PLC0415 - it starts an agent

        yield from _guarded("send", send_marked_event(settings))


def _guarded(subject: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings of a check; if the check fails, that is a finding too."""
    try:
        yield from findings
    except Exception as error:  # noqa: BLE001 - a user's app or the machine may cause any error
        yield fault(subject, f"the check failed: {type(error).__name__}: {error}", _TODO)


def _line(finding: Finding) -> str:
    line = f"{finding.level.value:<8} {finding.subject:<9} {finding.found}"
    return f"{line}\n{'':>18} → {finding.todo}" if finding.todo else line
