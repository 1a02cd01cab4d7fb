"""Two destinations side by side: neither delays, doubles or costs the other anything."""

from __future__ import annotations

import ast
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sluice_agent
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import DESTINATIONS, Destination, configured, job_filters
from sluice_agent.transport.delivery.shippers import Shippers
from sluice_agent.transport.delivery.timing import Timing
from sluice_agent.transport.journal import retention
from sluice_agent.transport.journal.accounting import report_on
from sluice_agent.transport.journal.cursor import Cursor, cursor_path, load_cursor
from sluice_agent.transport.journal.directory import journal_files
from sluice_agent.transport.journal.line import EVENTS, VITALS
from sluice_agent.transport.journal.line_selector import Selector
from sluice_agent.transport.journal.reader import Reader
from sluice_agent.transport.journal.retention import ensure_room
from sluice_agent.transport.journal.writer import JournalWriter
from tests.support.ackly import Ackly, created, refuses
from tests.support.endpoint import Endpoint
from tests.support.waiting import wait_until
from tests.unit.transport.lines import CONNECTION, EVERY_END, event, heartbeat, job, report, write_file

Start = Callable[..., Shippers]
PACKAGE = Path(sluice_agent.__file__).parent
HOMES = {f"transport/delivery/destinations/{destination.name}.py": destination for destination in DESTINATIONS}
OF_SERVER = {
    "server/access/worker_environment.py",
    "server/access/gate.py",
    "server/pages/keys.py",
    "commands/key.py",
    "commands/trigger.py",
    "client/http.py",
    "jobs/tasks.py",
    "jobs/worker/server.py",
}  # they concern one server, no destination
VARIABLES = re.compile(
    "|".join(rf"\b{name}\b" for home in DESTINATIONS for name in (home.key_variable, home.url_variable))
)


def variables_in(source: str) -> Iterator[str]:
    """Yield the variables of destinations that the strings in `source` name, but for docstrings and CLI help."""
    tree = ast.parse(source)
    prose = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    prose |= {node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "help"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in prose:
            yield from VARIABLES.findall(node.value)


def ingested_ids(ackly: Ackly) -> list[str]:
    """Return the ids of the ingested events, in order."""
    return [event["externalId"] for event in list(ackly.events)]


def test_one_that_is_down_delays_nothing_in_the_other(
    directory: Path, ackly: Ackly, endpoint: Endpoint, start: Start
) -> None:
    """Ackly's monthly limit lasts for days: Sluice goes on, and Ackly receives everything when it is over."""
    ackly.standing(refuses(429, {"Retry-After": "1"}))
    journal = JournalWriter(directory, 64_000_000)
    start()
    for number in range(50):
        journal.append(job(number, "completed"))
    wait_until(lambda: len(endpoint.events) == 50)
    assert ingested_ids(ackly) == []
    assert report(directory, "ackly")["pending"] == 50
    wait_until(lambda: "429" in str(report(directory, "ackly")["last_error"]))
    assert report(directory, "sluice")["last_error"] is None
    endpoint.down()
    for number in range(50, 100):
        journal.append(job(number, "completed"))
    journal.close()
    ackly.standing(created)
    wait_until(lambda: len(ackly.events) == 100, 20)
    assert report(directory, "sluice")["pending"] == 50
    endpoint.up()


def test_a_full_directory_costs_the_one_that_lags(
    directory: Path, ackly: Ackly, endpoint: Endpoint, start: Start
) -> None:
    """Ackly is down and its backlog fills the directory: Sluice, which is up, loses no event and no heartbeat by it."""
    ackly.standing(refuses(429, {"Retry-After": "1"}))
    journal = JournalWriter(directory, 1_000_000)
    start()
    for number in range(250):
        journal.append(job(number, "completed", error="x" * 8_000))
        if number % 25 == 0:
            journal.append(heartbeat(number), VITALS)
            wait_until(lambda sent=number: len(endpoint.events) >= sent)
    wait_until(lambda: len(endpoint.events) == 260)
    journal.close()
    assert report(directory, "sluice")["dropped"] == {}
    ackly.standing(created)
    wait_until(lambda: report(directory, "ackly")["pending"] == 0, 30)
    result = report(directory, "ackly")
    assert result["captured"] == 250
    assert result["dropped"] == {"journal_full": 250 - result["delivered"]} != {"journal_full": 0}
    assert 0 <= len(ackly.events) - result["delivered"] <= 1  # one may have been evicted while it was on its way


def test_two_may_read_a_file_at_once(directory: Path) -> None:
    """While one waits an hour with a file open, the other must still see that its writer is gone."""
    write_file(directory, job(1, "completed"), torn=b'{"type":"job')
    first = Reader(directory).next_batch({}, 1, 1_000_000, Selector("ackly", EVERY_END))
    second = Reader(directory).next_batch({}, 500, 1_000_000, Selector("sluice"))
    assert (len(first.lines), len(second.lines), second.dropped) == (1, 1, {"corrupt": 1})
    first.release()
    second.release()


def test_what_is_passed_over_is_not_held(directory: Path) -> None:
    """Ackly waits for its next month: a week of files that hold nothing for it must not stay locked all the while."""
    passed = [write_file(directory, job(number, "queued")) for number in range(3)]
    write_file(directory, job(4, "completed"))
    selector, offsets = Selector("ackly", EVERY_END), dict[str, int]()
    for name in passed:
        batch = Reader(directory).next_batch(offsets, 1, 1_000_000, selector)
        assert (list(batch.offsets), batch.lines, batch.skipped, batch.is_full) == ([name], [], 1, True)
        offsets |= batch.offsets
        batch.release()
    batch = Reader(directory).next_batch(offsets, 1, 1_000_000, selector)
    assert batch.lines == [job(4, "completed")]
    batch.release()


def test_what_one_has_not_read_is_evicted_before_what_none_has(directory: Path) -> None:
    """The backlog of Ackly, which has been down for days, must not cost the heartbeats that Sluice is about to get."""
    backlog = write_file(directory, job(1, "completed", error="x" * 300_000))
    fresh = write_file(directory, heartbeat(1, filler=300_000), lane=VITALS)
    also_fresh = write_file(directory, job(2, "completed", error="x" * 300_000))
    size = (directory / backlog).stat().st_size
    Cursor(cursor_path(directory, "sluice"), {backlog: size}).save()
    Cursor(cursor_path(directory, "ackly"), job_filter=EVERY_END).save()
    evicted: list[Any] = []
    ensure_room(directory, 1_000_000, evicted.append)
    assert journal_files(directory) == [fresh, also_fresh]
    assert evicted == [{"ackly": 1}]


def test_a_switched_off_destination_does_not_fill_the_disk(
    directory: Path, endpoint: Endpoint, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the Ackly key is removed, the backlog is kept for a day, in case that was a mistake, and no longer."""
    monkeypatch.delenv("ACKLY_INGEST_KEY", raising=False)
    write_file(directory, job(1, "completed"), job(2, "queued"), lane=EVENTS)
    cursor = Cursor(cursor_path(directory, "ackly"), job_filter=EVERY_END)
    cursor.save()
    sluice = start(ackly_ingest_key=None)
    wait_until(lambda: report(directory, "sluice")["delivered"] == 2)
    assert journal_files(directory)
    sluice.stop(1)
    long_ago = time.time() - 90_000
    os.utime(cursor.path, (long_ago, long_ago))
    again = start(ackly_ingest_key=None)
    wait_until(lambda: again._shippers[0]._holds_lock)
    again.stop(5)
    start(begin=False, ackly_ingest_key=None).deliver(5)
    assert journal_files(directory), "the one that ships to Ackly may be about to start"
    at_once = Timing(write_off=0.0)
    start(begin=False, timing=at_once, ackly_ingest_key=None).deliver(5)
    assert journal_files(directory), "a command sees one moment of a host"
    start(timing=at_once, ackly_ingest_key=None)
    wait_until(lambda: not journal_files(directory), 10, "the files stay")
    assert report(directory, "ackly")["dropped"] == {"switched_off": 1}
    assert time.time() - cursor.path.stat().st_mtime > 80_000


def test_a_destination_that_is_shipped_to_counts_however_old_its_cursor(
    directory: Path, ackly: Ackly, start: Start
) -> None:
    """A destination that has been down for a week must still get all events that it has not received."""
    ackly.standing(refuses(429))
    name = write_file(directory, job(1, "completed"))
    start()
    wait_until(lambda: report(directory, "sluice")["delivered"] == 1 and report(directory, "ackly")["last_error"])
    path = cursor_path(directory, "ackly")
    os.utime(path, (0, 0))
    retention.remove_passed(directory, load_cursor(cursor_path(directory, "sluice")))
    assert journal_files(directory) == [name]


def test_a_worker_may_ship_to_ackly_only(directory: Path, ackly: Ackly, start: Start) -> None:
    """Without a Sluice account there is no cursor of Sluice that would hold the files, and no accounts to look at."""
    write_file(directory, job(1, "completed"), event(2))
    write_file(directory, heartbeat(1), lane=VITALS)
    alone = {"api_key": None, "connection_id": None}
    start(**alone)
    wait_until(lambda: not journal_files(directory), 10, "the files stay")
    assert ingested_ids(ackly) == ["job-1"]
    assert job_filters(Settings(ackly_ingest_key=ackly.key, **alone)) == {"ackly": EVERY_END}
    assert report_on(directory, {"ackly": EVERY_END})["destinations"].keys() == {"ackly"}


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"api_key": "sk_test", "connection_id": CONNECTION}, ["sluice"]),
        ({"api_key": "sk_test", "connection_id": CONNECTION, "ackly_ingest_key": "k"}, ["sluice", "ackly"]),
        ({"connection_id": CONNECTION, "ackly_ingest_key": "k"}, ["ackly"]),
        ({"ackly_ingest_key": "k"}, ["ackly"]),
        ({"connection_id": CONNECTION, "ship": "never"}, ["sluice"]),
        ({}, ["sluice"]),
    ],
)
def test_a_destination_is_one_with_a_key(keys: dict[str, Any], named: list[str]) -> None:
    """Apps that ship to Ackly only, from separate journals: `flush()` and `status` would wait for Sluice."""
    noop = {"api_key": None, "connection_id": None, "ackly_ingest_key": None}
    settings = Settings(**{**noop, **keys})
    assert [destination.name for destination in configured(settings)] == list(job_filters(settings)) == named


def test_pending_is_right_before_any_delivery(directory: Path) -> None:
    """A status that counts starts and heartbeats as waiting for Ackly would cry wolf on the first day."""
    write_file(directory, job(1, "queued"), job(1, "active"), job(1, "completed"))
    assert report_on(directory, {"sluice": None, "ackly": EVERY_END})["destinations"]["ackly"]["pending"] == 1


def test_the_variables_of_destinations_are_named_in_one_place() -> None:
    """A user of a third destination would be sent to the wrong variable by a command with a list of its own."""
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    named = {file: list(variables_in(path.read_text(encoding="utf-8"))) for file, path in files.items()}
    assert {file for file, variables in named.items() if variables} == {"settings.py", *OF_SERVER, *HOMES}
    for file, destination in HOMES.items():
        assert sorted(named[file]) == sorted((destination.key_variable, destination.url_variable))


@pytest.mark.parametrize(
    ("source", "variables"),
    [
        ('KEYS = {"sluice": "SLUICE_API_KEY"}', ["SLUICE_API_KEY"]),
        ('print(f"{error}: is ACKLY_URL right?")', ["ACKLY_URL"]),
        ('def show():\n    """Show the server at SLUICE_API_URL."""', []),
        ('option("--key", help="As in SLUICE_API_KEY.")', []),
        ('KEYS = "SLUICE_API_KEYS"', []),
    ],
)
def test_a_variable_in_code_is_found(source: str, variables: list[str]) -> None:
    """A check that misses a variable would let it be written in ten files again."""
    assert list(variables_in(source)) == variables


@pytest.mark.parametrize("destination", DESTINATIONS, ids=lambda destination: destination.name)
def test_the_settings_read_the_variables_of_a_destination(
    destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages would name a variable that the agent does not read, and its key alone would leave the agent off."""
    for name in [name for name in os.environ if name.startswith(("SLUICE_", "ACKLY_"))]:
        monkeypatch.delenv(name)
    key = f"{'sk_' if destination.name == 'sluice' else ''}test"
    if destination.needs_connection:
        monkeypatch.setenv("SLUICE_CONNECTION_ID", CONNECTION)
    monkeypatch.setenv(destination.key_variable, key)
    monkeypatch.setenv(destination.url_variable, "http://127.0.0.1:9/path")
    settings = Settings()
    assert configured(settings) == (destination,)
    assert (destination.key(settings), settings.has_key, settings.active) == (key, True, True)
    assert destination.url(settings).startswith("http://127.0.0.1:9/path")
