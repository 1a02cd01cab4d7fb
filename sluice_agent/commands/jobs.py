"""``sluice-agent jobs``: the list of jobs, with the filters of the API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

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
from sluice_agent.server.queries.job_filter import PARAMETERS, InvalidFilterError, JobFilter
from sluice_agent.server.queries.sorting import SortBy, SortOrder

_PAGE = 100  # jobs: the most that the API returns at once
_HEADER = ("CREATED", "STATE", "NAME", "QUEUE", "DURATION", "WORKER", "ID")
_OPTIONS = {"connectionId": "--connection"}  # the other filters have the names of the API


def _filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each filter of the API."""
    for name, parameter in reversed(list(PARAMETERS.items())):
        option = _OPTIONS.get(name, "--" + re.sub("[A-Z]", lambda capital: f"-{capital[0].lower()}", name))
        again = " May be repeated." if parameter.is_repeatable else ""
        command = click.option(
            option,
            parameter.field,
            multiple=parameter.is_repeatable,
            metavar=_metavar(option, parameter.value_schema),
            help=parameter.description + again,
        )(command)
    return command


def _metavar(option: str, schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"[{'|'.join(schema['enum'])}]"
    formats = {"date-time": "TIME", "uuid": "ID"}
    return formats.get(schema.get("format", ""), option.rpartition("-")[2].upper())


@click.command()
@url_option
@_filter_options
@click.option("--sort", "sort_by", type=click.Choice([sort.value for sort in SortBy]), help="[default: createdAt]")
@click.option("--order", "sort_order", type=click.Choice([order.value for order in SortOrder]), help="[default: desc]")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1), help="The most jobs to list.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object per line.")
def jobs(
    url: str | None, sort_by: str | None, sort_order: str | None, limit: int, as_json: bool, **filters: Any
) -> None:
    """List jobs, the newest first. The filters are those of GET /api/jobs, and all of them must hold."""
    settings = api_settings(url)
    parameters = {**_filters(filters), "sortBy": sort_by or "", "sortOrder": sort_order or ""}
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


def _filters(options: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Return the API's parameters for the filters that were given."""
    given = ((name, text) for name, parameter in PARAMETERS.items() for text in _texts(options[parameter.field]))
    try:
        return JobFilter.parse(given).to_json()
    except InvalidFilterError as error:
        raise UserError(str(error)) from None


def _texts(value: str | Sequence[str] | None) -> Sequence[str]:
    return () if value is None else [value] if isinstance(value, str) else value


def _pages(
    client: ApiClient, parameters: dict[str, str | list[str]], limit: int
) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """Yield pages of the first `limit` jobs, each with the text of the total number."""
    cursor, left = "", limit
    seen = {cursor}
    while left > 0:
        page = client.get("/jobs", {**parameters, "limit": str(min(left, _PAGE)), "cursor": cursor})
        pagination = page["pagination"]
        total = f"{pagination['total']:,}" + ("" if pagination.get("totalExact", True) else "+")
        yield page["data"], total
        cursor = pagination["nextCursor"]
        left = left - len(page["data"]) if cursor else 0
        if left > 0 and (cursor in seen or not page["data"]):
            raise UserError("the server's list has no end: it repeats a page, or continues after an empty one")
        seen.add(cursor)


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
