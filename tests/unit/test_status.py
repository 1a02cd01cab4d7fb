"""`sluice-agent status` shows what is wrong, on one screen, and a probe can rely on its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sluice_agent.cli import main
from sluice_agent.transport.journal import accounting
from sluice_agent.transport.journal.ship_lock import ShipLock
from sluice_agent.transport.journal.writer import JournalWriter
from tests.support.ackly import Ackly, refuses
from tests.support.endpoint import Behaviour, Endpoint
from tests.support.misbehaviour import too_many, truncates
from tests.unit.transport.lines import CONNECTION, event, job

Status = Callable[[], tuple[int, dict[str, Any]]]


@pytest.fixture
def env(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables of this host."""
    variables = {"SLUICE_API_KEY": "sk_test", "SLUICE_CONNECTION_ID": CONNECTION, "SLUICE_API_URL": endpoint.url}
    variables |= {"SLUICE_STATE_DIR": str(tmp_path), "SLUICE_JOURNAL_MAX_BYTES": "1000000"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def journal(env: dict[str, str], tmp_path: Path) -> Iterator[JournalWriter]:
    """The journal of this host, which takes more than the host's limit."""
    journal = JournalWriter(tmp_path / CONNECTION, 64_000_000)
    yield journal
    journal.close()


def problems() -> list[tuple[str, str | None]]:
    """Return the problems in `status --json`; the exit code and the plain text must agree."""
    result = CliRunner().invoke(main, ["status", "--json"])
    problems = json.loads(result.output)["problems"]
    names = [(problem["problem"], problem["destination"]) for problem in problems]
    assert result.exit_code == bool(names)
    plain = CliRunner().invoke(main, ["status"])
    assert plain.exit_code == bool(names)
    assert all(any(line.startswith(f"{name} ") for line in plain.output.splitlines()) for name, _ in names)
    return names


def ship(*, expect_pending: bool = False) -> None:
    """Try to deliver all events; the exit code must show whether some remain."""
    assert CliRunner().invoke(main, ["ship", "--once"]).exit_code == expect_pending


def test_a_dead_shipper_is_named(journal: JournalWriter, tmp_path: Path) -> None:
    """The container that ships is gone: nothing arrives, and the place where events are shown can't report it."""
    assert problems() == []
    journal.append(event(1))
    assert problems() == [("no_shipper", "sluice")]
    lock = ShipLock(tmp_path / CONNECTION, "sluice")
    lock.acquire()
    assert problems() == []
    lock.release()


def test_a_wrong_key_is_named(journal: JournalWriter, endpoint: Endpoint) -> None:
    """A revoked key is replaced in a minute once its owner knows of it."""
    journal.append(event(1))
    endpoint.key = "sk_another"
    ship(expect_pending=True)
    assert ("key_refused", "sluice") in problems()
    endpoint.key = "sk_test"
    ship()
    assert problems() == []


def test_a_stuck_endpoint_is_named(journal: JournalWriter, endpoint: Endpoint) -> None:
    """An address without an answer looks, from the worker, like a quiet day."""
    journal.append(event(1))
    endpoint.down()
    ship(expect_pending=True)
    assert ("undeliverable", "sluice") in problems()


@pytest.mark.parametrize("at_its_limit", [truncates(0), too_many()])
def test_a_reached_limit_is_not_reported_as_a_wrong_address(
    journal: JournalWriter, endpoint: Endpoint, at_its_limit: Behaviour
) -> None:
    """A user would search for a network fault, every day until midnight."""
    journal.append(event(1))
    endpoint.standing(at_its_limit)
    ship(expect_pending=True)
    assert ("undeliverable", "sluice") in problems()
    output = CliRunner().invoke(main, ["status"]).output
    assert "whose limit is reached: they are sent when it resets" in output
    assert "SLUICE_API_URL" not in output


def test_a_full_directory_is_named(journal: JournalWriter) -> None:
    """From now on the oldest events are dropped: it is the last chance to act."""
    journal.append(event(1, filler=890_000))
    assert ("folder_full", None) in problems()


def test_a_full_disk_is_named(journal: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs fill disks, too, and then every event is lost."""
    usage = accounting.shutil.disk_usage("/")
    monkeypatch.setattr(accounting.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    assert problems() == [("disk_full", None)]


def test_the_second_destination_is_checked_too(journal: JournalWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sluice has no problem, so users don't look, and for weeks get no alert of failures from Ackly."""
    ackly = Ackly()
    for name, value in ackly.env.items():
        monkeypatch.setenv(name, value)
    ackly.standing(refuses(401))
    journal.append(job(1, "failed"))
    journal.append(event(2))
    ship(expect_pending=True)
    assert problems() == [("no_shipper", "ackly"), ("key_refused", "ackly")]
    report = json.loads(CliRunner().invoke(main, ["status", "--json"]).output)
    assert (report["captured"], report["pending"]) == (2, 0)
    assert (report["destinations"]["ackly"]["captured"], report["destinations"]["ackly"]["pending"]) == (1, 1)
    lines = CliRunner().invoke(main, ["status"]).output.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("destination")] == ["sluice", "ackly"]
    ackly.close()
    monkeypatch.delenv("ACKLY_INGEST_KEY")  # turned off on purpose: no probe must raise an alarm for that
    assert problems() == []


def test_the_exit_codes_are_documented() -> None:
    """A user who writes a probe must not have to read the source."""
    text = CliRunner().invoke(main, ["status", "--help"]).output
    names = ("no_shipper", "shipper_stuck", "key_refused", "undeliverable", "folder_full", "disk_full")
    assert all(name in text for name in names)
    assert [line.split()[0] for line in text.splitlines() if line.strip()[:1].isdigit()] == ["0", "1", "2"]
