"""The commands that look at a server, against a real one: the list of jobs, and the stream."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stdout
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from click.testing import CliRunner, Result

from sluice_agent.cli import main
from sluice_agent.commands.terminal import table
from sluice_agent.server.access.principal import Role
from sluice_agent.server.queries.sorting import SortBy
from sluice_agent.server.stream.limits import StreamLimits
from tests.support.json_api import JsonApi
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.support.process import Process
from tests.support.waiting import wait_until
from tests.unit.server.events import CONNECTION, ingest, job_event

Run = Callable[..., Result]
Tail = Callable[..., Process]


@pytest.fixture(scope="module")
def sluice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """A server with three jobs."""
    database = tmp_path_factory.mktemp("commands") / "sluice.db"
    with local_sluice(database, stream_limits=StreamLimits(heartbeat=0.5)) as server:
        ingest(
            server.client(),
            job_event("queued", 0, externalId="1", name="app.add", queue="math"),
            job_event("active", 1, externalId="1", name="app.add", queue="math", workerId="celery@w"),
            job_event("completed", 3.5, externalId="1", name="app.add", queue="math", workerId="celery@w"),
            job_event("failed", 4, externalId="2", name="app.send", queue="mail", error="ValueError: no"),
            job_event("queued", 5, externalId="3", name="app.\x1b[31mred", queue="mail"),
        )
        yield server


@pytest.fixture
def run(sluice: LocalSluice) -> Run:
    """`run("jobs", …)` runs a command with the address of that server."""
    return lambda *args, **env: CliRunner().invoke(main, args, env={"SLUICE_API_URL": f"{sluice.url}/api", **env})


@pytest.fixture
def tail(sluice: LocalSluice, tmp_path: Path) -> Iterator[Tail]:
    """Start `sluice-agent tail` with arguments; its output is its log."""
    processes: list[Process] = []

    def started(*args: str) -> Process:
        command = [sys.executable, "-m", "sluice_agent", "tail", "--url", f"{sluice.url}/api", *args]
        processes.append(Process(command, tmp_path / f"{len(processes)}.log", env=dict(os.environ)))
        return processes[-1]

    yield started
    for process in processes:
        process.stop()


def send_until(sluice: LocalSluice, condition: Callable[[], bool], **fields: str) -> None:
    """Send new jobs until `condition` holds: a command that follows the stream does not show that it has begun."""
    client = sluice.client()

    def send() -> bool:
        ingest(client, job_event("active", 10, externalId=str(uuid4()), **fields))
        return condition()

    wait_until(send)


def test_jobs_sorts_by_all_that_the_api_sorts_by(run: Run) -> None:
    """The terminal would otherwise lack a sort that the API has."""
    for sort in SortBy:
        assert run("jobs", "--sort", sort.value).exit_code == 0


def test_jobs_are_a_table(run: Run) -> None:
    """Somebody without a browser would have to read JSON."""
    result = run("jobs", "--sort", "createdAt", "--order", "asc", "--connection", CONNECTION, "--limit", "3")
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["CREATED", "STATE", "NAME", "QUEUE", "DURATION", "WORKER", "ID"]
    assert lines[0].split()[:7] == ["2026-02-27T10:00:00.000Z", "completed", "app.add", "math", "2.5", "s", "celery@w"]
    assert "app.\\x1b[31mred" in lines[2]  # a name must not command the terminal
    assert "\x1b" not in result.stdout
    assert result.stderr.startswith("3 of ")


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (("--state", "completed", "--state", "failed"), {"1", "2"}),
        (("--queue", "math"), {"1"}),
        (("--search", "app.add"), {"1"}),
        (("--state", "failed", "--queue", "math"), set()),
        (("--from", "2026-02-27T10:00:05.000Z", "--to", "2026-02-27T10:00:05.001Z"), {"3"}),  # as the table shows it
    ],
)
def test_jobs_are_filtered_by_the_server(run: Run, options: tuple[str, ...], ids: set[str]) -> None:
    """A list of everything would be of no use with a million jobs."""
    result = run("jobs", "--json", *options)
    assert {json.loads(line)["externalId"] for line in result.stdout.splitlines()} == ids


def test_more_jobs_than_a_page_are_listed(run: Run, sluice: LocalSluice) -> None:
    """A script that counts jobs would find a hundred at most."""
    ingest(sluice.client(), *(job_event("queued", 0, externalId=str(n), name="app.many") for n in range(120)))
    result = run("jobs", "--json", "--search", "app.many", "--limit", "110")
    listed = [json.loads(line)["externalId"] for line in result.stdout.splitlines()]
    assert len(set(listed)) == 110


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--url", "ftp://x/api"), "SLUICE_API_URL is malformed"),
        (("--url", "http://127.0.0.1:1/api"), "is the server running, and is this address right?"),
        (("--connection", str(uuid4())), "404 from"),
    ],
)
def test_what_a_user_can_correct_is_one_sentence(run: Run, args: tuple[str, ...], text: str) -> None:
    """A typing error would end in a traceback, or in a stream in which nothing ever happens."""
    result = run("tail", "--connection", CONNECTION, *args)
    assert result.exit_code == 2
    assert text in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("output", "status", "text"),
    [
        pytest.param(">/dev/full", 2, "Error: can't write to standard output", id="a full disk"),
        pytest.param(">&-", 0, "1 of ", id="closed"),
    ],
)
def test_an_output_that_can_not_be_written_is_one_sentence(
    sluice: LocalSluice, output: str, status: int, text: str
) -> None:
    """A job of cron on a full disk would mail a traceback of this package."""
    command = f"exec {shlex.quote(sys.executable)} -m sluice_agent jobs --limit 1 --url {sluice.url}/api {output}"
    result = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr.startswith(text)) == (status, True), result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_address_without_the_api_is_named(run: Run, sluice: LocalSluice) -> None:
    """Who copies the address of the page, without /api, must learn what is missing."""
    for command in (("tail", "--connection", CONNECTION), ("jobs",), ("job", "1")):
        result = run(*command, "--url", sluice.url)
        assert result.exit_code == 2
        assert "its address ends in /api" in result.stderr


def test_tail_needs_a_connection(run: Run) -> None:
    """Without it nothing could be followed: the user must learn where it comes from."""
    result = run("tail", SLUICE_CONNECTION_ID="")
    assert (result.exit_code, "SLUICE_CONNECTION_ID" in result.stderr) == (2, True)


def test_tail_shows_what_its_filters_select(tail: Tail, sluice: LocalSluice) -> None:
    """In a busy system a user could not find what he looks for."""
    follow = ("--connection", CONNECTION)
    outputs = {
        "all": tail(*follow),
        "json": tail(*follow, "--json"),
        "task": tail(*follow, "--task", "app.one*"),
        "state": tail(*follow, "--state", "active"),
        "queue": tail(*follow, "--queue", "one"),
    }
    send_until(sluice, lambda: all(process.logs() for process in outputs.values()), name="app.one_more", queue="one")
    other = job_event("retrying", 1, externalId=str(uuid4()), name="app.two", queue="two")
    snapshot = {**other, "type": "queue_snapshot", "queue": {"name": "one", "depth": 7, "consumers": 2}}
    del snapshot["job"]
    ingest(sluice.client(), other, snapshot, job_event("active", 10, externalId=str(uuid4()), name="app.end"))
    last = "app.one_last"  # which all of them show, after all that comes before it
    send_until(sluice, lambda: all(last in process.logs() for process in outputs.values()), name=last, queue="one")
    assert all("app.end" in outputs[name].logs() for name in ("all", "json", "state"))
    assert "one: 7 waiting, 2 consumers" in outputs["all"].logs()
    assert "retrying   app.two" in outputs["all"].logs()
    assert "\x1b" not in outputs["all"].logs()
    assert "app.two" not in outputs["task"].logs() + outputs["state"].logs() + outputs["queue"].logs()
    assert "app.end" not in outputs["task"].logs() + outputs["queue"].logs()
    assert "one: 7 waiting" in outputs["queue"].logs()
    assert "one: 7 waiting" not in outputs["task"].logs() + outputs["state"].logs()
    changes = [json.loads(line) for line in outputs["json"].logs().splitlines()]
    assert {"event": "queue:snapshot", "name": "one", "depth": 7, "consumers": 2} in changes
    assert {change["event"] for change in changes} == {"job:state_change", "queue:snapshot"}


def test_tail_leaves_out_what_it_does_not_know(tail: Tail) -> None:
    """A server of a later version would be shown as queues without a name."""
    events = b'event: later:news\ndata: {"text":"x"}\n\ndata: {}\n\nevent: queue:snapshot\ndata: {"name":"q"}\n\n'
    with closing(JsonApi(events, "text/event-stream")) as later:
        process = tail("--connection", CONNECTION, "--url", later.url)
        wait_until(lambda: "queue" in process.logs())
    assert "q: None waiting" in process.logs()
    assert "queue      None" not in process.logs()


def test_tail_ends_without_a_traceback(tail: Tail, sluice: LocalSluice) -> None:
    """Ctrl-C is how everybody ends it."""
    process = tail("--connection", CONNECTION)
    send_until(sluice, lambda: bool(process.logs()))
    process.send(signal.SIGINT)
    assert process.wait() == 130
    assert "Traceback" not in process.logs()
    assert "Aborted" not in process.logs()


def test_tail_ends_quietly_with_its_reader(sluice: LocalSluice) -> None:
    """`sluice-agent tail | head` would end in an error."""
    command = [sys.executable, "-m", "sluice_agent", "tail", "--url", f"{sluice.url}/api", "--connection", CONNECTION]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        os.set_blocking(process.stdout.fileno(), False)
        send_until(sluice, lambda: bool(process.stdout and process.stdout.readline()))
        process.stdout.close()
        wait_until(lambda: process.poll() is not None)
        assert process.stderr.read() == ""


@pytest.mark.parametrize("jobs", [1, 0])
def test_a_list_without_an_end_is_an_error(run: Run, sluice: LocalSluice, jobs: int) -> None:
    """The command would send requests until somebody notices."""
    job = httpx.get(f"{sluice.url}/api/jobs", params={"limit": 1}).json()["data"]
    page = {"data": job[:jobs], "pagination": {"nextCursor": "again", "total": 9, "limit": 1}}
    with closing(JsonApi(json.dumps(page).encode())) as api:
        result = run("jobs", "--url", api.url)
        assert len(api.requests) <= 2
    assert result.exit_code == 2
    assert "has no end" in result.stderr


def test_only_states_with_a_colour_are_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever copies a line from the terminal, would get control characters around plain text."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    controller, terminal = pty.openpty()
    with os.fdopen(controller), os.fdopen(terminal, "w") as output, redirect_stdout(output):
        plain, coloured = table([["a", "queued"], ["b", "failed"]], state_column=1)
    assert plain == "a  queued"
    assert coloured == "b  \x1b[31mfailed\x1b[0m"


def test_a_key_that_may_not_read_is_explained(sluice: LocalSluice, run: Run) -> None:
    """A user with a revoked key would otherwise search for the fault in the network."""
    accounts = sluice.access.accounts
    connection, _ = accounts.open_connection("keyed")
    key = accounts.create_key(connection, Role.VIEWER)
    accounts.revoke_key(key.id)
    result = run("jobs", SLUICE_API_KEY=key.secret)
    assert result.exit_code == 2
    assert "was revoked" in result.stderr
    assert "set SLUICE_API_KEY" in result.stderr
    assert "key create --connection NAME --role viewer" in result.stderr  # without --connection it is refused
    assert key.secret not in result.stderr
