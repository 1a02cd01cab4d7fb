"""``sluice-agent job``: one job, with its history drawn over time."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

import click

from sluice_agent.commands.common import UserError
from sluice_agent.commands.printable import printable, printable_lines
from sluice_agent.commands.terminal import (
    api_client,
    api_settings,
    duration_text,
    has_colour,
    print_line,
    state_colour,
    state_text,
    url_option,
)
from sluice_agent.commands.timeline import IDLE_NOTE, Row, timeline

_TEXT_COLUMNS = 64  # beside the bars
_BAR_COLUMNS = (12, 60)  # the fewest and the most


@click.command()
@click.argument("job_id", metavar="ID")
@url_option
@click.option("--json", "as_json", is_flag=True, help="Print the record as the server sent it.")
def job(job_id: str, url: str | None, as_json: bool) -> None:
    """Show one job: its states over time, its attempts and its error. ID is Sluice's or Celery's.

    Time in which it only waited is folded where it would hide the rest.
    """
    settings = api_settings(url)
    record = api_client(settings).get(f"/jobs/{quote(job_id, safe='')}")
    try:
        lines = _lines(record)
    except (LookupError, TypeError, ValueError):
        raise UserError(
            f"200 from {settings.api_url}, but the answer is not a job: is this the address of a Sluice's API?"
        ) from None
    if as_json:
        print_line(json.dumps(record, indent=2))
    for line in [] if as_json else lines:
        print_line(line)


def _lines(record: dict[str, Any]) -> list[str]:
    state = state_text(str(record["state"]))
    least, most = _BAR_COLUMNS
    width = max(least, min(most, shutil.get_terminal_size((100, 24)).columns - _TEXT_COLUMNS))
    rows = timeline(record, datetime.now(timezone.utc), width)
    lines = [
        f"{printable(str(record['name']))}  {printable(str(record['externalId']))}",
        f"{state}, attempt {record['attempt']}, queue {printable(str(record['queue']))}",
        *map(_line, rows),
    ]
    if any(row.is_folded for row in rows):
        lines.append(f"  {IDLE_NOTE}")
    return lines + [printable_lines(str(record[name])) for name in ("error", "stacktrace") if record.get(name)]


def _line(row: Row) -> str:
    name = row.state if row.attempt is None else f"{row.state}/{row.attempt}"
    duration = "" if row.milliseconds is None else duration_text(row.milliseconds)
    bar = click.style(row.bar, fg=state_colour(row.state)) if has_colour() else row.bar
    state = state_text(row.state, label=name, width=11)
    return f"  {printable(row.timestamp):<24}  +{row.offset:8.3f} s  {state}  {duration:>8}  {bar}"
