"""``sluice-agent tail``: follow the changes of a connection as they happen."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote
from uuid import UUID

import click

from sluice_agent.client.errors import ApiError, TemporaryError
from sluice_agent.client.follow import BackOff, Change, follow
from sluice_agent.client.http import ApiClient
from sluice_agent.commands.common import UserError
from sluice_agent.commands.printable import printable
from sluice_agent.commands.terminal import (
    api_client,
    api_settings,
    has_lost_its_reader,
    print_line,
    state_text,
    url_option,
)
from sluice_agent.globs import matcher
from sluice_agent.model import JobState

_JOB = "job:state_change"
_REMEMBERED_QUEUES = 10_000  # of jobs, for --queue
_INTERRUPTED = 130  # the exit code of a command that SIGINT ends

Filter = Callable[[Change], bool]


@click.command()
@url_option
@click.option("--connection", metavar="ID", type=click.UUID, help="[default: SLUICE_CONNECTION_ID]")
@click.option("--task", "tasks", multiple=True, metavar="GLOB", help="Only jobs of these tasks; may be repeated.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in JobState]),
    help="Only jobs that enter this state; may be repeated.",
)
@click.option("--queue", "queues", multiple=True, metavar="Q", help="Only this queue and its jobs; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="For programs: every change as one JSON object per line.")
def tail(
    url: str | None,
    connection: UUID | None,
    tasks: tuple[str, ...],
    states: tuple[str, ...],
    queues: tuple[str, ...],
    as_json: bool,
) -> None:
    """Follow the changes of jobs, workers and queues as they happen, until it is interrupted.

    If the stream breaks off it goes on where it was. If the server no longer has all that was missed, that is reported
    on standard error. Times are UTC. Without --json, a worker or a queue is shown only when something of it changes.
    """
    settings = api_settings(url, connection)
    if settings.connection_id is None:
        raise UserError("no connection is named: give --connection ID, or set SLUICE_CONNECTION_ID as your workers do")
    client = api_client(settings)
    back_off = BackOff(random.random)
    selects = _filter(client, tasks, states, queues)
    parameters = {"connectionId": str(settings.connection_id), "types": _types(bool(tasks or states), bool(queues))}
    show = _show_json if as_json else _Lines().show
    try:
        for change in follow(
            lambda last_id: client.stream("/events/stream", parameters, last_id), back_off, time.sleep, _notice
        ):
            if change.event == "heartbeat":
                if has_lost_its_reader():
                    return
            elif selects(change):
                show(change)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _types(has_job_filter: bool, has_queues: bool) -> str:
    """Return the types of changes that the filters can select; nothing for all."""
    if has_job_filter:
        return "job"
    return "job,queue" if has_queues else ""


def _filter(client: ApiClient, tasks: tuple[str, ...], states: tuple[str, ...], queues: tuple[str, ...]) -> Filter:
    matches_task = matcher(tasks)
    queue_of = _Queues(client) if queues else None

    def selects(change: Change) -> bool:
        data = change.data
        if change.event != _JOB:
            return not queues or data.get("name") in queues
        if (tasks and not matches_task(str(data.get("name")))) or (states and data.get("state") not in states):
            return False
        return queue_of is None or queue_of(str(data.get("id"))) in queues

    return selects


class _Queues:
    """The queues of jobs, which the stream does not name: each job is looked up once it is known."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._known: OrderedDict[str, str] = OrderedDict()

    def __call__(self, job_id: str) -> str | None:
        if job_id in self._known:
            return self._known[job_id]
        queue: str | None = self._record(job_id).get("queue")
        if queue is not None:
            self._known[job_id] = queue
            if len(self._known) > _REMEMBERED_QUEUES:
                self._known.popitem(last=False)
        return queue

    def _record(self, job_id: str) -> dict[str, Any]:
        """Return a job's record, an empty one if it was deleted; while the server is away wait, as the stream does."""
        back_off = BackOff(random.random)
        while True:
            try:
                record: dict[str, Any] = self._client.get(f"/jobs/{quote(job_id, safe='')}")
            except TemporaryError:
                time.sleep(back_off.next_delay())
            except ApiError as error:
                if error.status != 404:
                    raise
                return {}
            else:
                return record


class _Lines:
    """Prints changes as lines of text, without those that repeat the last one of a worker or a queue."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def show(self, change: Change) -> None:
        """Print `change`, if it is one. An event that only a later version knows is left out."""
        kind = change.event.partition(":")[0]
        if change.event == _JOB:
            print_line(_job_line(change.data))
        if kind not in _TEXTS:
            return
        subject, text = _TEXTS[kind](change.data)
        if self._last.get(subject) != text:
            self._last[subject] = text
            print_line(f"{datetime.now(timezone.utc):%H:%M:%S.%f}"[:12] + f"  {text}")


def _show_json(change: Change) -> None:
    print_line(json.dumps({"event": change.event, **change.data}))


def _job_line(data: dict[str, Any]) -> str:
    clock = str(data.get("timestamp", ""))[11:23]
    state = str(data.get("state"))
    progress = data.get("progress")
    note = f"  {progress:.0%}" if isinstance(progress, (int, float)) else ""
    name, job_id = printable(str(data.get("name"))), printable(str(data.get("id")))
    return f"{printable(clock)}  {state_text(state, width=9)}  {name}  {job_id}{note}"


def _worker_text(data: dict[str, Any]) -> tuple[str, str]:
    active = data.get("activeJobs")
    note = "" if active is None else f", {active} active"
    name = printable(str(data.get("hostname")))
    state = str(data.get("state"))
    return f"worker {data.get('id')}", f"{state_text(state, width=9)}  worker {name}{note}"


def _queue_text(data: dict[str, Any]) -> tuple[str, str]:
    consumers = data.get("consumers")
    note = "" if consumers is None else f", {consumers} consumers"
    name = printable(str(data.get("name")))
    return f"queue {name}", f"{'queue':<9}  {name}: {data.get('depth')} waiting{note}"


_TEXTS = {"worker": _worker_text, "queue": _queue_text}
"""By the first part of an event's name: its subject and its line, for those that can repeat the last one."""


def _notice(text: str) -> None:
    click.echo(text, err=True)
