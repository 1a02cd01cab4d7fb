"""A further destination: one object and its settings, and everything that lists destinations knows it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from sluice_agent.commands.doctor import findings_on
from sluice_agent.commands.probes import health_of
from sluice_agent.commands.status import inspect_journal, render
from sluice_agent.doctor.findings import Level
from sluice_agent.setting_values import Address, IngestKey, Secret
from sluice_agent.settings import Settings, key_text, setting
from sluice_agent.transport.delivery.destinations import DESTINATIONS
from sluice_agent.transport.delivery.destinations.base import Destination, Limits, Request
from sluice_agent.transport.delivery.responses import Response, Settled, Verdict, classify
from sluice_agent.transport.delivery.shippers import Shippers
from sluice_agent.transport.journal.directory import open_directory
from sluice_agent.transport.journal.line_selector import JobFilter
from sluice_agent.transport.journal.writer import JournalWriter
from tests.support.ackly import Ackly
from tests.unit.transport.lines import CONNECTION, job


@dataclass(frozen=True, init=False)
class PagerSettings(Settings):
    """The settings with the fields of the third destination."""

    pager_key: Secret | None = setting(None, IngestKey("a key", begins_with_sk=False), variable="PAGER_KEY")
    pager_url: str = setting("", Address("https://pager.example"), variable="PAGER_URL")


def encode(lines: list[bytes]) -> Request:
    names = [json.loads(line)["job"]["name"] for line in lines]
    return Request(json.dumps({"status": "failure", "message": f"{', '.join(names)} failed"}).encode())


def classify_page(response: Response, events: int, now: datetime) -> Verdict:
    return Settled(events, 0, 0) if response.status == 201 else classify(response, events, now)


PAGER = Destination(
    name="pager",
    key_variable="PAGER_KEY",
    url_variable="PAGER_URL",
    key=lambda settings: key_text(settings.pager_key),
    url=lambda settings: settings.pager_url,
    limits=lambda _: Limits(max_lines=10, max_bytes=10_000),
    job_filter=lambda _: JobFilter(("failed",), ("*",)),
    encode=encode,
    classify=classify_page,
    probe=b"{}",
    deduplicates=True,
    needs_connection=False,
)
ALL = (*DESTINATIONS, PAGER)


@pytest.fixture
def settings(ackly: Ackly, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PagerSettings:
    """The settings of a host with the third destination only; its endpoint is a real server, in Ackly's format."""
    for name in [name for name in os.environ if name.startswith(("SLUICE_", "ACKLY_"))]:
        monkeypatch.delenv(name)
    variables = {"PAGER_KEY": ackly.key, "PAGER_URL": ackly.url, "SLUICE_CONNECTION_ID": CONNECTION}
    variables |= {"SLUICE_STATE_DIR": str(tmp_path), "SLUICE_JOURNAL_MAX_BYTES": "1000000"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return PagerSettings()


@pytest.fixture
def journal(settings: PagerSettings) -> Path:
    """The journal of that host: a job that completed, and two that failed."""
    directory = open_directory(settings.state_dir, CONNECTION)
    writer = JournalWriter(directory, 1_000_000)
    for number, state in enumerate(("completed", "failed", "failed")):
        writer.append(job(number, state))
    writer.close()
    return directory


def test_its_key_switches_the_agent_on(settings: PagerSettings) -> None:
    """A user who sets the new key alone would get nothing, and read that another key is missing."""
    assert (settings.has_key, settings.active) == (True, True)


def test_it_is_shipped_to_and_has_a_status(settings: PagerSettings, journal: Path, ackly: Ackly) -> None:
    """A list of destinations that was kept by hand elsewhere would forget this one, and its events wait unseen."""
    report, problems = inspect_journal(settings, ALL)
    assert report["destinations"].keys() == {"pager"}
    assert (report["captured"], report["pending"]) == (2, 2)
    assert [(problem.problem, problem.destination) for problem in problems] == [("no_shipper", "pager")]
    assert problems[0].what.endswith("running with PAGER_KEY?")
    assert health_of(settings, journal, None, ALL).problems.keys() == {"no_shipper_pager"}

    Shippers(settings, journal, ALL).deliver(10)

    assert [event["message"] for event in ackly.events] == ["app.add, app.add failed"]
    report, problems = inspect_journal(settings, ALL)
    assert (report["delivered"], report["pending"], report["skipped"], problems) == (2, 0, 1, [])
    assert "delivered      2" in render(report, problems)
    assert not health_of(settings, journal, None, ALL).problems


def test_it_has_a_check_in_doctor(settings: PagerSettings, journal: Path, ackly: Ackly) -> None:
    """A wrong address would be found when the first failure at night has paged nobody."""
    assert [finding for finding in findings_on(settings, None, ALL) if finding.level is Level.FAULT] == []
    assert ("pager", f"{ackly.url} can be reached and accepts the key") in {
        (finding.subject, finding.found) for finding in findings_on(settings, None, ALL)
    }
    wrong = PagerSettings(pager_key="wrong")
    [fault] = [finding for finding in findings_on(wrong, None, ALL) if finding.level is Level.FAULT]
    assert (fault.subject, "set PAGER_KEY" in fault.todo) == ("pager", True)
    ackly.faults.clear()  # the probe is no valid event, on purpose


def test_without_any_key_doctor_names_it_too(settings: PagerSettings) -> None:
    """A user who reads which keys there are would not learn of the third."""
    keyless = PagerSettings(pager_key=None)
    assert "PAGER_KEY" in next(finding.todo for finding in findings_on(keyless, None, ALL) if finding.todo)
