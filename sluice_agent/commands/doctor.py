"""``sluice-agent doctor``: check everything that delivery depends on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import click

from sluice_agent.doctor.endpoints import check_ackly, check_sluice
from sluice_agent.doctor.findings import Finding, Level, fault
from sluice_agent.doctor.host import check_folder, check_settings, check_shipper
from sluice_agent.errors import ConfigError
from sluice_agent.settings import Settings

_TODO = "correct the cause, and run `sluice-agent doctor` again"


@click.command()
@click.option(
    "--app", "-A", metavar="NAME", help="Also check this Celery app, as in `celery -A NAME`: its broker and settings."
)
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object per line.")
def doctor(app: str | None, as_json: bool) -> None:
    """Check the settings, the keys, the endpoints, the clock, the journal's directory, and a Celery app.

    Print a remedy for each problem. No event is sent. Run it where the worker runs: as the same user, in the same
    environment.

    \b
    Exit codes:
      0  events can be captured and delivered; there may be warnings
      1  there is a fault: events can't be captured or delivered
    """
    findings = []
    for finding in _findings(app):
        findings.append(finding)
        click.echo(json.dumps(asdict(finding)) if as_json else _line(finding))
    sys.exit(1 if any(finding.level is Level.FAULT for finding in findings) else 0)


def _findings(app: str | None) -> Iterator[Finding]:
    try:
        settings = Settings()
    except ConfigError as error:
        yield fault("settings", str(error), _TODO)
        return
    checks = (check_settings, check_folder, check_shipper, check_sluice, check_ackly)
    for check in checks:
        yield from _guarded(check, settings)
    if app is not None:
        from sluice_agent.doctor.celery_app import check_app  # noqa: PLC0415 - Celery is slow to import

        yield from _guarded(check_app, app)


def _guarded(check: Callable[[Any], Iterator[Finding]], subject: Any) -> Iterator[Finding]:
    """Yield the findings of a check; if the check fails, that is a finding too."""
    try:
        yield from check(subject)
    except Exception as error:  # noqa: BLE001 - a user's app or the machine may cause any error
        found = f"the check failed: {type(error).__name__}: {error}"
        yield fault(check.__name__.removeprefix("check_"), found, _TODO)


def _line(finding: Finding) -> str:
    line = f"{finding.level.value:<8} {finding.subject:<9} {finding.found}"
    return f"{line}\n{'':>18} → {finding.todo}" if finding.todo else line
