"""The commands: their output, their exit codes, and one sentence for every error that a user can correct."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sluice_agent import __version__
from sluice_agent.cli import main
from sluice_agent.transport.journal.writer import JournalWriter
from tests.support import misbehaviour
from tests.support.endpoint import Endpoint
from tests.support.json_api import JsonApi
from tests.support.process import Process
from tests.support.waiting import wait_until
from tests.unit.transport.lines import event

CONNECTION = str(uuid.uuid4())
RECORD = {
    "externalId": "celery-id",
    "name": "app.add",
    "state": "failed",
    "attempt": 2,
    "queue": "celery",
    "stateHistory": [
        {"state": "queued", "timestamp": "2026-01-01T00:00:00Z"},
        {"state": "active", "timestamp": "2026-01-01T00:00:00.5Z"},
        {"state": "failed", "timestamp": "2026-01-01T00:01:00.25Z"},
    ],
    "error": "ValueError: no",
    "stacktrace": "Traceback …",
}

NO_JOURNAL = "does not exist yet: nothing has been captured"

Run = Callable[..., Result]


@pytest.fixture
def env(endpoint: Endpoint, tmp_path: Path) -> dict[str, str]:
    """The variables of this host's workers."""
    return {
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": CONNECTION,
        "SLUICE_API_URL": endpoint.url,
        "SLUICE_STATE_DIR": str(tmp_path),
        "SLUICE_FLUSH_INTERVAL": "0.05",
    }


@pytest.fixture
def run(env: dict[str, str]) -> Run:
    """`run("status", SLUICE_SHIP="never")` runs a command with the host's variables and changes; None removes one."""
    return lambda *args, **changes: CliRunner().invoke(main, args, env={**env, **changes})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalWriter]:
    """The journal of this host."""
    journal = JournalWriter(tmp_path / CONNECTION, 64_000_000)
    yield journal
    journal.close()


@pytest.fixture
def api() -> Iterator[JsonApi]:
    """A jobs API with one job."""
    api = JsonApi(json.dumps(RECORD).encode())
    yield api
    api.close()


def user_error(result: Result) -> str:
    """Return the sentence of an error that the user can correct; any other result fails the test."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    [line] = result.output.splitlines()
    return line


def test_the_version_is_printed(run: Run) -> None:
    """A user who reports a bug must be able to name the version."""
    assert run("--version").output == f"sluice-agent, version {__version__}\n"


def test_status_of_a_fresh_host(run: Run, tmp_path: Path) -> None:
    """A pod is healthy before its first event; but zeros would hide that the directory's name is mistyped."""
    result = run("status")
    assert result.exit_code == 0
    assert result.output.split() == ["journal", str(tmp_path / CONNECTION), *NO_JOURNAL.split()]
    result = run("status", "--json")
    assert result.exit_code == 0
    report = json.loads(result.output)
    assert (report["exists"], report["captured"], report["destinations"]["sluice"]["pending"]) == (False, 0, 0)


@pytest.mark.parametrize(
    "command", [("status",), ("dead", "list"), ("dead", "show", "1"), ("dead", "retry", "--all"), ("doctor",)]
)
def test_commands_that_only_read_create_nothing(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    """Root runs one before the first worker starts: the directory would be root's, and the worker's agent off."""
    run(*command, SLUICE_STATE_DIR=str(tmp_path / "state"))
    assert list(tmp_path.iterdir()) == []


def test_status_of_a_read_only_directory(run: Run, journal: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that became read-only, or is full: then users need the figures."""
    journal.append(event(0))
    real = os.open

    def no_new_files(path: object, flags: int, *more: object, **others: object) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *more, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", no_new_files)
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in run("status").output.splitlines()}
    assert rows["captured"] == "1"


def test_status_fails_if_events_wait_and_no_process_ships(run: Run, journal: JournalWriter) -> None:
    """A probe that runs `status` must notice that the shipping container is gone."""
    journal.append(event(0))
    journal.drop("before_send")
    result = run("status")
    assert result.exit_code == 1
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in result.output.splitlines()}
    assert rows["captured"] == "2"
    assert rows["pending"].startswith("2 (")


def test_status_shows_the_four_figures(run: Run, journal: JournalWriter, endpoint: Endpoint) -> None:
    """The four figures are the promise that nothing is lost silently: every user must be able to read them."""
    journal.append(event(0))
    journal.append(event(1))
    journal.drop("before_send")
    journal.close()
    endpoint.standing(misbehaviour.rejects(lambda event: event["job"]["externalId"] == "job-1"))
    run("ship", "--once")
    result = run("status")
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in result.output.splitlines()}
    assert (rows["captured"], rows["delivered"], rows["rejected"]) == ("3", "1", "1")
    assert rows["dropped"] == "1 (before_send 1)"
    assert rows["pending"] == "0"


def test_status_for_programs(run: Run, journal: JournalWriter) -> None:
    """A dashboard reads these names."""
    journal.append(event(0))
    result = run("status", "--json")
    report = json.loads(result.output)
    assert result.exit_code == 1
    assert report.keys() >= {
        *("captured", "delivered", "rejected", "dropped", "pending", "duplicates"),
        *("folder", "bytes", "shipper", "last_delivery", "last_error"),
    }
    assert (report["captured"], report["pending"], report["shipper"]) == (1, 1, None)
    assert report["bytes"] == len(event(0)) + 1
    assert "sk_test" not in result.output


def test_status_names_the_last_error(run: Run, journal: JournalWriter, endpoint: Endpoint) -> None:
    """The reason why events wait is the first thing that a user wants to know."""
    journal.append(event(0))
    endpoint.key = "sk_another"
    run("ship", "--once")
    result = run("status")
    assert result.exit_code == 1
    assert "401 no such key" in result.output


@pytest.mark.parametrize("command", [("status",), ("ship",), ("ship", "--once")])
def test_a_missing_connection_is_a_user_error(run: Run, command: tuple[str, ...]) -> None:
    """Without it the command can't know which journal is meant."""
    changes = {} if command == ("status",) else {"SLUICE_API_KEY": "sk_test"}
    result = run(*command, SLUICE_CONNECTION_ID=None, **{"SLUICE_API_KEY": None, **changes})
    assert "SLUICE_CONNECTION_ID is not set" in user_error(result)


def test_a_missing_key_is_a_user_error(run: Run) -> None:
    """A container that ships and has no key would otherwise run for ever and do nothing."""
    assert "SLUICE_API_KEY is not set" in user_error(run("ship", SLUICE_API_KEY=None))


@pytest.mark.parametrize("command", [("status",), ("ship",), ("job", "id")])
def test_a_malformed_setting_is_a_user_error(run: Run, command: tuple[str, ...]) -> None:
    """A traceback would not name the variable to correct."""
    assert user_error(run(*command, SLUICE_BATCH_SIZE="0")).startswith("Error: SLUICE_BATCH_SIZE is malformed: '0'")


def test_a_malformed_management_url_is_a_user_error(run: Run) -> None:
    """The monitor would run without the metric, and report that only in its log."""
    message = user_error(run("monitor", SLUICE_BROKER_URL="amqp://rabbitmq", SLUICE_MANAGEMENT_URL="rabbitmq:15672"))
    assert message.startswith("Error: --management-url: ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--broker", "foo://bar"], "No such transport: foo"),
        (["--broker", "redis://h:notaport/0"], "malformed"),
        (["--broker", "redis://:sec/ret@h:6379/0"], "percent-encoded"),
        (["--broker", "redis://h;foo://bar"], "No such transport: foo"),
        (["--broker", "redis://h", "--durable", ""], "--durable must name a queue"),
        (["--broker", "redis://h", "--queue", "a", "--queue", ""], "--queue must name a queue"),
        (["--broker", "redis://h", "--transport-options", "[]"], "--transport-options must be a JSON object"),
    ],
)
def test_a_malformed_option_of_the_monitor_is_a_user_error(run: Run, arguments: list[str], text: str) -> None:
    """A typing error in a deployment must not be a traceback, nor a monitor of another cluster."""
    message = user_error(run("monitor", *arguments))
    assert text in message
    assert "sec/" not in message


@pytest.mark.parametrize(
    ("content", "text"), [(b"", "is empty"), (b" \n", "is empty"), (b"redis://\xff", "UTF-8"), (b"foo://bar", "foo")]
)
def test_a_broker_file_without_an_address_is_a_user_error(run: Run, tmp_path: Path, content: bytes, text: str) -> None:
    """A secret that is not filled in yet: the monitor must not fall back to the broker on localhost."""
    (tmp_path / "broker").write_bytes(content)
    message = user_error(run("monitor", "--broker-file", str(tmp_path / "broker")))
    assert text in message
    assert str(tmp_path / "broker") in message


def test_a_directory_that_cannot_be_used_is_a_user_error(run: Run, tmp_path: Path) -> None:
    """The sidecar's user has no right to the volume: the error must name the directory."""
    (tmp_path / "file").touch()
    assert "set SLUICE_STATE_DIR" in user_error(run("status", SLUICE_STATE_DIR=str(tmp_path / "file")))


def test_ship_once_delivers_all_events_and_ends(run: Run, journal: JournalWriter, endpoint: Endpoint) -> None:
    """A cron job or a last step of a deployment empties the journal."""
    for number in range(1_200):
        journal.append(event(number))
    journal.close()
    result = run("ship", "--once")
    assert (result.exit_code, result.output) == (0, "")
    assert len(endpoint.events) == 1_200


def test_ship_ships_until_sigterm(
    env: dict[str, str], journal: JournalWriter, endpoint: Endpoint, tmp_path: Path, run: Run
) -> None:
    """The container beside the workers: SIGTERM delivers what is left and ends it cleanly."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    process = Process(
        [sys.executable, "-m", "sluice_agent", "ship"],
        tmp_path / "ship.log",
        {**inherited, **env, "SLUICE_FLUSH_INTERVAL": "60"},
    )
    try:
        wait_until(lambda: json.loads(run("status", "--json").output)["shipper"], context=process.tail)
        assert json.loads(run("status", "--json").output)["shipper"]["pid"] == process.pid
        journal.append(event(1))
        process.send(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.stop()
    assert list(endpoint.jobs()) == ["job-1"]
    assert "sk_test" not in process.logs()
    assert run("status").exit_code == 0


def test_job_shows_the_states_over_time(run: Run, api: JsonApi) -> None:
    """Users look up a job for its times and its error."""
    result = run("job", "celery-id", SLUICE_API_URL=f"{api.url}/api", COLUMNS="100")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "app.add  celery-id",
        "failed, attempt 2, queue celery",
        "  2026-01-01T00:00:00Z      +   0.000 s  queued         500 ms  ░",
        "  2026-01-01T00:00:00.5Z    +   0.500 s  active         59.8 s  " + "█" * 36,
        "  2026-01-01T00:01:00.25Z   +  60.250 s  failed                 " + " " * 35 + "●",
        "ValueError: no",
        "Traceback …",
    ]
    assert api.requests == [("/api/jobs/celery-id", "Bearer sk_test")]


def test_job_for_programs(run: Run, api: JsonApi) -> None:
    """A script gets the record as the server sent it."""
    assert json.loads(run("job", "--json", "celery-id", SLUICE_API_URL=f"{api.url}/api").output) == RECORD


def test_job_asks_for_the_id_as_it_is(run: Run, api: JsonApi) -> None:
    """A job's id may be any text: a slash or a question mark in it must not request another resource."""
    assert run("job", "a/b?c#d é", SLUICE_API_URL=f"{api.url}/api").exit_code == 0
    assert api.requests[0][0] == "/api/jobs/a%2Fb%3Fc%23d%20%C3%A9"


def test_an_unknown_job_is_a_user_error(run: Run, endpoint: Endpoint) -> None:
    """A user can correct a typing error in the id."""
    endpoint.key = "sk_test"
    assert user_error(run("job", "unknown")) == f"Error: 404 from {endpoint.url}: on purpose"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (502, b"<html>"),
        (404, b"[]"),
        (404, b'{"error":"gone"}'),
        (404, b'{"error":{}}'),
        (200, b"<html>Please sign in</html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"name":"a"}'),
    ],
)
def test_an_answer_that_is_not_a_job_is_a_user_error(run: Run, api: JsonApi, status: int, body: bytes) -> None:
    """The server at a wrong SLUICE_API_URL may answer, too: a traceback would not name the cause."""
    api.answer = (status, body)
    message = user_error(run("job", "id", SLUICE_API_URL=f"{api.url}/api"))
    assert str(status) in message
    assert f"{api.url}/api" in message


def test_a_server_that_cannot_be_reached_is_a_user_error(run: Run, endpoint: Endpoint) -> None:
    """A user who is offline must not read a traceback of httpx."""
    endpoint.down()
    message = user_error(run("job", "id"))
    assert endpoint.url in message
    assert "is this address right? SLUICE_API_URL or --url sets it" in message
