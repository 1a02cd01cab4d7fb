"""``sluice-agent jobs``: the list of jobs, with the filters of the API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import click

from sluice_agent.client.http import ApiClient
from sluice_agent.commands.common import UserError
from sluice_agent.commands.printable import printable
from sluice_agent.commands.terminal import (
    api_client,
    api_settings,
    duration_text,
    print_line,
    table,
    url_option,
)
from sluice_agent.model import Framework, JobState

_PAGE = 100  # jobs: the most that the API returns at once
_HEADER = ("CREATED", "STATE", "NAME", "QUEUE", "DURATION", "WORKER", "ID")
_SORTS = (
    "createdAt",
    "stateChangedAt",
    "startedAt",
    "completedAt",
    "durationMs",
    "name",
    "queue",
    "state",
    "worker",
)  # as the server has them, which is an extra
_MOMENT = click.DateTime(
    ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ"]
)


@click.command()
@url_option
@click.option("--connection", metavar="ID", type=click.UUID, help="Only those of this connection. [default: of all]")
@click.option("--state", multiple=True, type=click.Choice([state.value for state in JobState]), help="May be repeated.")
@click.option("--name", multiple=True, metavar="TASK", help="The task's name; may be repeated.")
@click.option("--queue", multiple=True, metavar="Q", help="May be repeated.")
@click.option("--worker", multiple=True, metavar="ID", help="May be repeated.")
@click.option("--error-class", multiple=True, metavar="CLASS", help="Such as ValueError; may be repeated.")
@click.option("--framework", type=click.Choice([framework.value for framework in Framework]))
@click.option("--root-id", metavar="ID", help="The members of a canvas, its root included.")
@click.option("--group-id", metavar="ID", help="The members of a group.")
@click.option("--from", "created_from", type=_MOMENT, metavar="TIME", help="Created at this UTC time or later.")
@click.option("--to", "created_to", type=_MOMENT, metavar="TIME", help="Created before this UTC time.")
@click.option("--search", metavar="TEXT", help="A part of a task's name, or an id.")
@click.option("--sort", "sort_by", type=click.Choice(_SORTS), help="[default: createdAt]")
@click.option("--order", "sort_order", type=click.Choice(("asc", "desc")), help="[default: desc]")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="The most jobs to list.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object per line.")
def jobs(url: str | None, connection: UUID | None, limit: int, as_json: bool, **filters: Any) -> None:
    """List jobs, the newest first. The filters are those of GET /api/jobs, and all of them must hold."""
    settings = api_settings(url)
    parameters = _parameters(filters, connection)
    rows: list[tuple[str, ...]] = []
    summary = "No jobs match"
    try:
        for page, total in _pages(api_client(settings), parameters, limit):
            if as_json:
                for job in page:
                    print_line(json.dumps(job))
            else:
                rows += map(_row, page)
                summary = f"{len(rows):,} of {total} jobs" if rows else summary
    except (LookupError, TypeError, ValueError):
        raise UserError(
            f"200 from {settings.api_url}, but the answer is not a list of jobs: is this the address of a Sluice's API?"
        ) from None
    if not as_json:
        for line in table([_HEADER, *rows], state_column=1) if rows else []:
            print_line(line)
        click.echo(summary, err=True)


def _parameters(filters: dict[str, Any], connection: UUID | None) -> dict[str, str | list[str]]:
    """Return the API's parameters for the options that were given."""
    names = {
        "error_class": "errorClass",
        "root_id": "rootId",
        "group_id": "groupId",
        "created_from": "from",
        "created_to": "to",
        "sort_by": "sortBy",
        "sort_order": "sortOrder",
    }
    given = {names.get(name, name): value for name, value in filters.items() if value}
    if connection is not None:
        given["connectionId"] = connection
    return {name: _text(value) for name, value in given.items()}


def _text(value: Any) -> str | list[str]:
    if isinstance(value, datetime):
        return value.replace(tzinfo=timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return list(value) if isinstance(value, tuple) else str(value)


def _pages(
    client: ApiClient, parameters: dict[str, str | list[str]], limit: int
) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """Yield pages of the first `limit` jobs, each with the text of the total number."""
    cursor, left = "", limit
    while left > 0:
        page = client.get("/jobs", {**parameters, "limit": str(min(left, _PAGE)), "cursor": cursor})
        pagination = page["pagination"]
        total = f"{pagination['total']:,}" + ("" if pagination.get("totalExact", True) else "+")
        yield page["data"], total
        cursor = pagination["nextCursor"]
        left = left - len(page["data"]) if cursor else 0


def _row(job: dict[str, Any]) -> tuple[str, ...]:
    duration = "" if job["durationMs"] is None else duration_text(job["durationMs"])
    texts = (
        job["createdAt"],
        job["state"],
        job["name"],
        job["queue"] or "",
        duration,
        job["workerId"] or "",
        job["id"],
    )
    return tuple(printable(str(text)) for text in texts)
