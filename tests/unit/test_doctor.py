"""`sluice-agent doctor` finds what prevents events from arriving, and prints what to do."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

from sluice_agent.cli import main
from sluice_agent.commands.doctor import findings_on
from sluice_agent.doctor import host
from sluice_agent.doctor.celery_app import missing_patch_findings
from sluice_agent.doctor.findings import Level
from sluice_agent.missing_patches import MissingPatches
from sluice_agent.settings import DEFAULT_API_URL, Settings
from sluice_agent.transport.delivery.destinations import ACKLY, SLUICE
from sluice_agent.transport.journal.ship_lock import ShipLock, ship_lock
from tests.support.ackly import Ackly
from tests.support.endpoint import Endpoint
from tests.support.misbehaviour import html, status, too_many
from tests.unit.transport.lines import CONNECTION

Findings = list[tuple[str, str, str, str]]
ACCEPTED_NOTHING = {"accepted": 0, "rejected": 0, "skipped": 0, "truncated": 0}


@pytest.fixture
def endpoint(endpoint: Endpoint) -> Iterator[Endpoint]:
    """The ingest endpoint, to which `doctor` must send no event."""
    yield endpoint
    assert endpoint.events == []


@pytest.fixture
def ackly() -> Iterator[Ackly]:
    """A fresh Ackly, which must receive no event."""
    server = Ackly()
    yield server
    server.close()
    assert server.events == []


@pytest.fixture(autouse=True)
def env(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of this host, and none of the machine's own."""
    for name in [name for name in os.environ if name.startswith(("SLUICE_", "ACKLY_"))]:
        monkeypatch.delenv(name)
    variables = {"SLUICE_API_KEY": "sk_test", "SLUICE_CONNECTION_ID": CONNECTION, "SLUICE_API_URL": endpoint.url}
    variables |= {"SLUICE_STATE_DIR": str(tmp_path), "SLUICE_JOURNAL_MAX_BYTES": "1000000"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def doctor(*args: str) -> Findings:
    """Return level, subject, result and remedy of every finding; the exit code must agree with the levels."""
    result = CliRunner().invoke(main, ["doctor", "--json", *args])
    findings = [tuple(json.loads(line).values()) for line in result.output.splitlines()]
    assert result.exit_code == any(finding[0] == "fault" for finding in findings), result.output
    assert all(finding[3] for finding in findings if finding[0] in ("fault", "warning"))
    assert "sk_test" not in result.output
    return findings


def levels(findings: Findings, subject: str) -> list[str]:
    """Return the levels of the findings on `subject`."""
    return [finding[0] for finding in findings if finding[1] == subject]


def test_no_problem(ackly: Ackly, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who reads of faults that are none stops running it; and it must cost no event."""
    for name, value in ackly.env.items():
        monkeypatch.setenv(name, value)
    findings = doctor()
    assert not [finding for finding in findings if finding[0] in ("fault", "warning")]
    assert [levels(findings, subject) for subject in ("folder", "sluice", "ackly")] == [["ok"], ["ok"], ["ok"]]
    plain = CliRunner().invoke(main, ["doctor"])
    assert plain.exit_code == 0
    assert len([line for line in plain.output.splitlines() if not line.startswith(" ")]) == len(findings)


@pytest.mark.parametrize(
    ("variable", "value", "level", "text"),
    [
        ("SLUICE_BATCH_SIZE", "0", "fault", "SLUICE_BATCH_SIZE"),
        ("SLUICE_ENABLED", "0", "fault", "SLUICE_ENABLED"),
        ("SLUICE_API_KEY", "", "fault", "SLUICE_API_KEY"),
        ("SLUICE_HEARTBEAT_INTERVAL", "30", "warning", "offline"),
        ("SLUICE_HEARTBEAT_INTERVAL", "0", "warning", "offline"),
        ("SLUICE_SHIP", "never", "note", "sluice-agent ship"),
    ],
)
def test_settings(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, level: str, text: str) -> None:
    """An agent that is off, or that only writes, looks from outside like a network that is down."""
    monkeypatch.setenv(variable, value)
    findings = [finding for finding in doctor() if finding[:2] == (level, "settings")]
    [finding] = [finding for finding in findings if text in finding[2] + finding[3]]
    assert finding[3]


def test_the_daily_plan_concerns_the_hosted_sluice_alone() -> None:
    """A user of a server of his own would set a budget, and lose heartbeats to a limit that it does not have."""

    def found_of(api_url: str) -> list[str]:
        return [finding.found for finding in host.check_settings(Settings(api_url=api_url))]

    own = found_of("http://127.0.0.1:8787/api")
    assert found_of(DEFAULT_API_URL) == [
        *own,
        "a worker's heartbeats are 17,280 events a day; the free plan accepts 10,000",
    ]


@pytest.mark.parametrize(
    ("behaviour", "level", "text"),
    [
        (status(401), "fault", "SLUICE_API_KEY"),
        (status(404), "fault", "SLUICE_API_URL"),
        (html(), "fault", "SLUICE_API_URL"),
        (status(500), "fault", "works again"),
        (too_many(), "warning", "wait"),
        (status(400), "ok", ""),
    ],
)
def test_answers_of_the_endpoint(endpoint: Endpoint, behaviour: Callable[..., bool], level: str, text: str) -> None:
    """A wrong key, a wrong address and a failing endpoint are corrected by different people."""
    endpoint.standing(behaviour)
    [finding] = [finding for finding in doctor() if finding[1] == "sluice"]
    assert finding[0] == level
    assert text in finding[3]


def test_an_endpoint_that_cannot_be_reached(endpoint: Endpoint) -> None:
    """The most common fault: a firewall, or an address of another cluster."""
    endpoint.down()
    [finding] = [finding for finding in doctor() if finding[1] == "sluice"]
    assert finding[0] == "fault"
    assert "SLUICE_API_URL" in finding[3]


def test_a_wrong_key_of_ackly(ackly: Ackly, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of a source that was deleted: events wait for ever, and users get no alert of failures."""
    monkeypatch.setenv("ACKLY_INGEST_KEY", "another")
    monkeypatch.setenv("ACKLY_URL", ackly.url)
    [finding] = [finding for finding in doctor() if finding[1] == "ackly"]
    assert finding[0] == "fault"
    assert "ACKLY_INGEST_KEY" in finding[3]


@pytest.mark.parametrize(
    ("offset", "level", "text"),
    [
        (0, "ok", "agrees"),
        (-3, "ok", "agrees"),
        (-60, "fault", "ahead of"),
        (60, "fault", "behind"),
        (3600, "fault", ""),
    ],
)
def test_a_clock_that_is_wrong(endpoint: Endpoint, offset: int, level: str, text: str) -> None:
    """Jobs would seem to end before they begin, and live workers to be offline."""
    date = formatdate(time.time() + offset, usegmt=True)
    endpoint.standing(status(200, {"Date": date}, json.dumps(ACCEPTED_NOTHING)))
    [finding] = [finding for finding in doctor() if finding[1] == "clock"]
    assert finding[0] == level
    assert text in finding[2]


def test_a_directory_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent turns itself off with one line in a log that users seldom read."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("SLUICE_STATE_DIR", str(tmp_path / "file"))
    assert levels(doctor(), "folder") == ["fault"]


def test_a_directory_that_does_not_exist_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs before the first worker starts, often as root: a directory that it created, the worker could not use."""
    monkeypatch.setenv("SLUICE_STATE_DIR", str(tmp_path / "state"))
    [finding] = [finding for finding in doctor() if finding[1] == "folder"]
    assert finding[0] == "ok"
    assert "does not exist yet" in finding[2]
    assert not (tmp_path / "state").exists()
    (tmp_path / "state" / CONNECTION).mkdir(parents=True)
    [finding] = [finding for finding in doctor() if finding[1] == "folder"]
    assert "can be written" in finding[2]


def test_a_disk_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the next outage of the endpoint the disk would be full before the journal is."""
    usage = host.shutil.disk_usage("/")
    monkeypatch.setattr(host.shutil, "disk_usage", lambda _: usage._replace(free=999_999))
    assert levels(doctor(), "folder") == ["ok", "warning"]


def make_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **conf: object) -> str:
    """Return the name of a new module that creates a Celery app."""
    name = f"app_{time.monotonic_ns()}"
    settings = {"broker_url": "memory://", "worker_hijack_root_logger": True, **conf}
    text = f"from celery import Celery\napp = Celery('{name}', set_as_current=False)\napp.conf.update(**{settings!r})\n"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize(
    ("conf", "level", "text"),
    [
        ({}, "ok", "no other setting matters"),
        ({"task_always_eager": True}, "warning", "task_always_eager"),
        ({"task_acks_late": True}, "note", "task_reject_on_worker_lost"),
        ({"task_time_limit": 30}, "note", "task_time_limit (30 s)"),
        ({"worker_hijack_root_logger": False}, "note", "worker_hijack_root_logger"),
        ({"task_protocol": 1}, "warning", "task_protocol"),
        ({"worker_send_task_events": True}, "note", "worker_send_task_events"),
    ],
)
def test_settings_of_celery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conf: dict[str, object], level: str, text: str
) -> None:
    """They decide what the agent can observe of a job, and a user should know it before an incident."""
    findings = doctor("--app", make_app(tmp_path, monkeypatch, **conf))
    assert levels(findings, "broker") == ["ok"]
    assert [finding[0] for finding in findings if finding[1] == "celery" and text in finding[2]] == [level]


def test_a_visibility_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Redis a countdown of two hours runs a task twice, and it looks like the agent's fault."""
    down = {"broker_url": "redis://:secret@127.0.0.1:9/0", "broker_transport_options": {"visibility_timeout": 60}}
    findings = doctor("-A", make_app(tmp_path, monkeypatch, **down))
    assert levels(findings, "broker") == ["fault"]
    assert "secret" not in str(findings)
    assert [finding[0] for finding in findings if "visibility_timeout is 60 s" in finding[2]] == ["note"]
    findings = doctor("-A", make_app(tmp_path, monkeypatch, **down, task_acks_late=True))
    assert [finding[0] for finding in findings if "visibility_timeout is 60 s" in finding[2]] == ["warning"]


@pytest.mark.parametrize(
    ("conf", "subject", "text"),
    [
        ({"broker_url": "nosuch://:secret@x"}, "broker", "No such transport: nosuch"),
        ({"broker_url": "redis://:secret/@x:6379/0"}, "broker", "broker_url"),
        ({"broker_transport_options": {"visibility_timeout": "3600"}}, "celery", "visibility_timeout is '3600'"),
        ({"broker_transport_options": {"visibility_timeout": None}}, "celery", "visibility_timeout is None"),
        ({"broker_transport_options": [1]}, "broker", "broker_transport_options"),
        ({"task_time_limit": "30", "task_acks_late": True}, "celery", "task_time_limit is '30'"),
        ({"task_soft_time_limit": "30"}, "celery", "task_soft_time_limit is '30'"),
        ({"task_protocol": "1"}, "celery", "task_protocol is '1'"),
    ],
)
def test_a_setting_of_celery_that_is_malformed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conf: dict[str, object], subject: str, text: str
) -> None:
    """A number from the environment is a text: a traceback names neither the setting nor the other faults."""
    findings = doctor("-A", make_app(tmp_path, monkeypatch, **{"broker_url": "redis://127.0.0.1:9/0", **conf}))
    assert [finding[0] for finding in findings if finding[1] == subject and text in finding[2]] == ["fault"]
    assert "secret" not in str(findings)


def test_a_check_that_fails(ackly: Ackly) -> None:
    """The findings of the other checks must still appear."""

    def no_address(_: Settings) -> NoReturn:
        raise RuntimeError("boom")

    settings = Settings(ackly_ingest_key=ackly.key, ackly_url=ackly.url)
    broken = replace(SLUICE, url=no_address)
    findings = {finding.subject: finding for finding in findings_on(settings, destinations=(broken, ACKLY))}
    assert findings["sluice"].level is Level.FAULT
    assert findings["sluice"].found == "the check failed: RuntimeError: boom"
    assert findings["ackly"].level is Level.OK


def test_an_app_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any error in a user's module must become a finding, not a traceback of ours."""
    assert levels(doctor("--app", "no_such_module"), "app") == ["fault"]
    (tmp_path / "broken_app.py").write_text("raise SystemExit('no')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert levels(doctor("--app", "broken_app"), "app") == ["fault"]


def test_an_app_without_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is set, and the two lines in the app are missing."""
    monkeypatch.setattr("celery.signals.worker_ready.receivers", [])
    name = make_app(tmp_path, monkeypatch)
    assert levels(doctor("--app", name), "app") == ["warning"]
    monkeypatch.setattr("celery.signals.worker_ready.receivers", [(("sluice_agent.worker_ready", None), None)])
    assert levels(doctor("--app", name), "app") == ["ok"]


def test_a_celery_that_the_agent_does_not_know_is_named() -> None:
    """Jobs that are reported late, or not at all, would look like a fault of the network."""
    missing_patches = MissingPatches()
    assert list(missing_patch_findings(missing_patches)) == []
    missing_patches.add("Producer._publish", "jobs are reported late")
    [finding] = missing_patch_findings(missing_patches)
    assert (finding.level, finding.subject) == (Level.WARNING, "celery")
    assert finding.found.startswith("Producer._publish")
    assert finding.found.endswith("jobs are reported late")
    assert "kombu" in finding.todo


def test_a_stuck_shipper_is_named(tmp_path: Path) -> None:
    """No event of the host arrives, while every check of what this process can do itself finds no problem."""
    (tmp_path / CONNECTION).mkdir(mode=0o700)
    lock = ShipLock(tmp_path / CONNECTION, "sluice")
    assert lock.acquire()
    assert "shipper" not in {subject for _, subject, *_ in doctor()}
    os.utime(ship_lock(tmp_path / CONNECTION, "sluice"), (1, 1))
    [(level, _, found, todo)] = [finding for finding in doctor() if finding[1] == "shipper"]
    assert (level, f"process {os.getpid()} ships to sluice" in found) == ("warning", True)
    assert "enable-threads" in todo
    lock.release()


@pytest.mark.parametrize(("version", "is_warned"), [("2.0.26", True), ("2.0.27", False), ("2.1", False)])
def test_a_uwsgi_that_runs_no_threads_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, is_warned: bool
) -> None:
    """Events of a web process would wait until it ends, or as long as no worker runs."""
    metadata = tmp_path / "packages" / f"uWSGI-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: uWSGI\nVersion: {version}\n")
    monkeypatch.syspath_prepend(metadata.parent)
    findings = [(found, todo) for _, subject, found, todo in doctor() if subject == "shipper"]
    assert bool(findings) is is_warned
    assert all(version in found and "enable-threads" in todo for found, todo in findings)
