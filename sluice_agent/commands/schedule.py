"""``sluice-agent schedule``: the jobs that cron fires."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from sluice_agent.client.errors import ApiError
from sluice_agent.client.http import ApiClient
from sluice_agent.commands.common import UserError
from sluice_agent.commands.printable import printable
from sluice_agent.commands.terminal import api_settings, jobs_client, print_line, table, url_option
from sluice_agent.commands.trigger import project_option, refuse_without_project

_HEADER = ("NEXT", "STATE", "SLUG", "CRON", "ZONE", "LAST", "LAST RUN", "MISSED", "SKIPPED")


@click.group()
def schedule() -> None:
    """Show when jobs are fired by their cron expressions."""


@schedule.command("list")
@project_option
@url_option
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object per line.")
def list_schedules(project: str | None, url: str | None, as_json: bool) -> None:
    """List the schedules of a project: next and last firing in UTC, and how many were missed or skipped.

    Those that fire next are first.
    """
    settings = api_settings(url)
    try:
        found = list(_schedules(jobs_client(settings), project))
        if not as_json:
            rows = [_row(item) for item in sorted(found, key=_order)]
    except ApiError as error:
        refuse_without_project(error, project)
    except (LookupError, TypeError, AttributeError):
        raise UserError("the answer is not a list of schedules: is this the address of a Sluice's API?") from None
    if as_json:
        for item in found:
            print_line(json.dumps(item))
        return
    for line in table([_HEADER, *rows], state_column=1) if rows else []:
        print_line(line)
    of_project = f" of the project {printable(project)}" if project else ""
    nothing = f"No job{of_project} has a schedule: the setting cron gives it one"
    click.echo(f"Schedules: {len(rows):,}" if rows else nothing, err=True)


def _schedules(client: ApiClient, project: str | None) -> Iterator[dict[str, Any]]:
    """Yield the schedules of all pages."""
    cursor = ""
    seen = {cursor}
    while True:
        parameters = {"project_id": project or "", "limit": "100", "envelope": "true", "cursor": cursor}
        page = client.get("/schedules", parameters)
        yield from page["data"]
        if not page["has_more"]:
            return
        cursor = page["next_cursor"]
        if cursor in seen:
            raise UserError("the server's list has no end: it repeats a page")
        seen.add(cursor)


def _order(item: dict[str, Any]) -> tuple[bool, str, str]:
    return "next_fire_at" not in item, item.get("next_fire_at", ""), item["slug"]


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    state = "paused" if "paused_at" in item else "enabled" if item["enabled"] else "disabled"
    texts = (
        item.get("next_fire_at", "-"),
        state,
        item["slug"],
        item["cron"],
        item.get("timezone", "UTC"),
        item.get("last_fire_at", "-"),
        item.get("last_run_status", "-"),
        item["missed_count"],
        item["skipped_count"],
    )
    return tuple(printable(str(text)) for text in texts)
