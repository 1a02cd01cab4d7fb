"""``sluice-agent job``: one job, with its history."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from urllib.parse import quote

import click
from pydantic import TypeAdapter

from sluice_agent.commands.common import UserError
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import SLUICE
from sluice_agent.transport.delivery.http import HttpClient, UnreachableError

_TIME = TypeAdapter(datetime)  # accepts any number of digits; Python 3.10 itself accepts 3 or 6


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the record as the server sent it.")
def job(job_id: str, as_json: bool) -> None:
    """Show one job of the server at SLUICE_API_URL: its states over time, and its error. ID is Sluice's or Celery's."""
    settings = Settings()
    address = f"{settings.api_url}/jobs/{quote(job_id, safe='')}"
    client = HttpClient(address, SLUICE.key(settings))
    try:
        response = client.get()
    except UnreachableError as error:
        raise UserError(f"{settings.api_url} can't be reached ({error}): is {SLUICE.url_variable} right?") from None
    try:
        record = json.loads(response.body)
    except ValueError:
        record = None
    if response.status != 200:
        raise UserError(f"{response.status} from {settings.api_url}: {_reason(record)}")
    try:
        text = _timeline(record)
    except (LookupError, TypeError, ValueError):
        raise UserError(
            f"200 from {settings.api_url}, but the answer is not a job: is {SLUICE.url_variable} right?"
        ) from None
    click.echo(json.dumps(record, indent=2) if as_json else text)


def _timeline(record: dict[str, Any]) -> str:
    first = None
    lines = [
        f"{record['name']}  {record['externalId']}",
        f"{record['state']}, attempt {record['attempt']}, queue {record['queue']}",
    ]
    for step in record["stateHistory"]:
        time = _TIME.validate_python(step["timestamp"])
        first = first or time
        lines.append(f"  {step['timestamp']}  +{(time - first).total_seconds():8.3f} s  {step['state']}")
    lines += [record[field] for field in ("error", "stacktrace") if record.get(field)]
    return "\n".join(lines)


def _reason(response: Any) -> str:
    error = response.get("error") if isinstance(response, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or "no reason given")
