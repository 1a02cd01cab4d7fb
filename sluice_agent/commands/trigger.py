"""``sluice-agent trigger``: a run of a job, by the job's slug."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import click

from sluice_agent.client.errors import ApiError, TemporaryError
from sluice_agent.client.http import ApiClient
from sluice_agent.commands.common import UserError
from sluice_agent.commands.printable import printable
from sluice_agent.commands.terminal import api_settings, jobs_client, print_line, url_option

_LONGEST_DELAY = 30 * 86_400  # seconds
_LOOK = 1.0  # seconds between two looks at the run

project_option = click.option(
    "--project", metavar="NAME", help="Needed on loopback with a key of no connection: else it is the key's."
)


@click.command()
@click.argument("slug")
@click.option("--payload", metavar="JSON", default="{}", help="JSON, @FILE, or - for standard input. [default: {}]")
@click.option("--idempotency-key", "key", metavar="KEY", help="A second trigger with it returns the first one's run.")
@click.option("--delay", type=click.FloatRange(0, _LONGEST_DELAY), metavar="SECONDS", help="Start later, by so much.")
@click.option("--priority", type=click.IntRange(0, 10), default=0, help="The highest is executed first.")
@click.option("--debug", "is_debug", is_flag=True, help="Keep the heads of its requests and answers: not of a task.")
@click.option("--wait", "waits", is_flag=True, help="Wait for the end: exit code 1 unless the run is completed.")
@project_option
@url_option
def trigger(
    slug: str,
    payload: str,
    key: str | None,
    delay: float | None,
    priority: int,
    is_debug: bool,
    waits: bool,
    project: str | None,
    url: str | None,
) -> None:
    """Trigger a run of the job SLUG, and print the run's id.

    Where the answer is lost, the run may have been made: with --idempotency-key the same command can be repeated.
    """
    for given in (slug, key, project):
        _check_text(given or "")
    text = read_payload(payload)
    client = jobs_client(api_settings(url))
    wanted: dict[str, Any] = {"priority": priority, **({"idempotency_key": key} if key else {})}
    if is_debug:
        wanted["debug_mode"] = True
    if delay:
        wanted["scheduled_at"] = (datetime.now(timezone.utc) + timedelta(seconds=delay)).isoformat()
    body = f'{json.dumps(wanted)[:-1]}, "payload": {text}}}'  # as it was given: numbers keep their digits
    run = client.post(f"/jobs/{_job_id(client, slug, project)}/trigger", body)
    try:
        run_id, notes = str(run["id"]), [note for name, note in _NOTES.items() if run.get(name)]
    except (LookupError, TypeError, AttributeError):
        _refuse_answer("run")
    print_line(printable(run_id))
    for note in notes:
        click.echo(note, err=True)
    if waits:
        _wait(client, run_id, time.sleep)


_NOTES = {
    "idempotency_hit": "The run was there already, with this key.",
    "deduplicated": "The run was there already, with this payload.",
}


def read_payload(given: str) -> str:
    """Return the JSON text that an option gives: itself, ``@FILE``, or ``-``. Raises `UserError` if it is none."""
    source, text = "the payload", given
    try:
        if given == "-":
            source = "standard input"
            text = sys.stdin.buffer.read().decode()
        elif given.startswith("@"):
            source = given[1:]
            text = Path(source).read_bytes().decode()
        text.encode()
        json.loads(text, parse_constant=_refuse_constant)
    except OSError as error:
        raise UserError(f"can't read {source} ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        reason = "it is empty" if not text.strip() else error
        advice = f"@{given} reads the file" if _is_file(given) else "give JSON, @FILE, or - for standard input"
        raise UserError(f"{source} is not JSON ({reason}): {advice}") from None
    return text.strip()


def _is_file(given: str) -> bool:
    try:
        return Path(given).is_file()
    except (OSError, ValueError):  # a long payload, for instance, is no path
        return False


def _check_text(given: str) -> None:
    try:
        given.encode()
    except UnicodeEncodeError:
        raise UserError(f"{printable(given)} is not UTF-8: the job's slug, its project and keys are") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _job_id(client: ApiClient, slug: str, project: str | None) -> str:
    """Return the id of the job with a slug. Raises `UserError` if there is none."""
    try:
        found = client.get("/jobs", {"slug": slug, "project_id": project or ""})
    except ApiError as error:
        refuse_without_project(error, project)
    try:
        ids = [str(job["id"]) for job in found if job["slug"] == slug]
    except (LookupError, TypeError):
        _refuse_answer("list of jobs")
    if not ids:
        of_project = f" in the project {project}" if project else ""
        raise UserError(f"there is no job {slug}{of_project}: make it by POST /v1/jobs, or correct the slug")
    return quote(ids[0], safe="")


def refuse_without_project(error: ApiError, project: str | None) -> NoReturn:
    """Raise the error of a list, or one that names the option if the project is missing."""
    if error.status == 400 and project is None:
        raise UserError("the key belongs to no single project: name one with --project") from None
    raise error


def _wait(client: ApiClient, run_id: str, sleep: Callable[[float], None]) -> None:
    """Return when a run has completed; end the command with exit code 1 if it ends otherwise."""
    has_warned = False
    while True:
        try:
            run = client.get(f"/runs/{quote(run_id, safe='')}")
            status, is_ended, error = str(run["status"]), "finished_at" in run, run.get("error")
        except TemporaryError as away:
            if not has_warned:
                click.echo(f"{away}. The run goes on; waiting for the server.", err=True)
            has_warned = True
        except (LookupError, TypeError, AttributeError):
            _refuse_answer("run")
        else:
            if is_ended:
                click.echo(printable(f"{status}: {error}" if error else status), err=True)
                if status != "completed":
                    raise click.exceptions.Exit(1)
                return
        sleep(_LOOK)


def _refuse_answer(what: str) -> NoReturn:
    raise UserError(f"the answer is not a {what}: is SLUICE_API_URL, or --url, the address of a Sluice's API?")
