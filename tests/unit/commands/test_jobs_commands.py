"""The commands that use the jobs API, against a real server that executes runs itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sluice_agent.cli import main
from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.setup import AccessOptions
from tests.support.endpoint import running
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.support.misbehaviour import status
from tests.support.process import ROOT
from tests.support.webhook_receiver import WebhookReceiver

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def target() -> Iterator[WebhookReceiver]:
    """The endpoint of the jobs."""
    with running(WebhookReceiver()) as target:
        yield target


@pytest.fixture(scope="module")
def sluice(tmp_path_factory: pytest.TempPathFactory, target: WebhookReceiver) -> Iterator[LocalSluice]:
    """A server with two jobs of the project `shop`, one with a schedule."""
    directory = tmp_path_factory.mktemp("jobs")
    engine = EngineOptions(poll=0.05, state_dir=directory)
    with local_sluice(directory / "s.db", has_jobs=True, engine=engine, options=AccessOptions()) as server:
        client = server.client(path="/v1")
        job = {"project_id": "shop", "endpoint_url": target.hook, "max_attempts": 1}
        report = {**job, "name": "Report", "slug": "nightly report", "cron": "0 3 * * *", "timezone": "Europe/Berlin"}
        limited = {**job, "name": "Limited", "slug": "limited", "rate_limit_max": 1, "rate_limit_window_secs": 3600}
        for body in (report, limited):
            assert client.post("/jobs", json=body).status_code == 201
        yield server


@pytest.fixture
def run(sluice: LocalSluice) -> Run:
    """`run("trigger", …)` runs a command with the address of that server."""

    def run(*args: str, text: str | None = None, **env: str) -> Result:
        address = {"SLUICE_API_URL": f"{sluice.url}/api", "SLUICE_API_KEY": "sk_any"}
        return CliRunner().invoke(main, args, input=text, env=address | env)

    return run


def found(sluice: LocalSluice, run_id: str) -> dict[str, Any]:
    """Return a run."""
    body: dict[str, Any] = sluice.client(path="/v1").get(f"/runs/{run_id}").json()
    return body


def test_a_run_is_triggered_by_slug_and_its_id_is_printed(
    run: Run, sluice: LocalSluice, target: WebhookReceiver, tmp_path: Path
) -> None:
    """A script that starts the nightly report would have to find the job's id first, and build the request itself."""
    file = tmp_path / "payload.json"
    file.write_text('{"amount": 1.10}\n')
    trigger = ("trigger", "nightly report", "--project", "shop")
    for payload, text, expected in (
        (f"@{file}", None, '{"amount":1.10}'),
        ("-", '{"to": "é"}', '{"to":"é"}'),
        ("[1]", None, "[1]"),
        ("{}", None, "{}"),
    ):
        result = run(*trigger, "--payload", payload, "--wait", text=text)
        assert (result.exit_code, result.stderr.strip()) == (0, "completed"), result.output
        assert found(sluice, result.stdout.strip())["triggered_by"] == "manual"
        assert target.requests[-1].raw.decode() == expected


def test_a_key_finds_the_run_that_is_there(run: Run) -> None:
    """A script that is repeated after a lost answer would run the report twice, or not know that it had run."""
    trigger = ("trigger", "nightly report", "--project", "shop", "--idempotency-key", "2026-02-27")
    first, second = run(*trigger), run(*trigger)
    assert first.stdout == second.stdout
    assert (first.stderr, second.stderr) == ("", "The run was there already, with this key.\n")
    assert (first.exit_code, second.exit_code) == (0, 0)


def test_a_run_can_be_delayed(run: Run, sluice: LocalSluice) -> None:
    """A report for later would be made at once; or the first attempt of a run in debug mode would keep no heads."""
    trigger = ("trigger", "nightly report", "--project", "shop", "--delay", "3600", "--priority", "7")
    for option, has_heads in (("--debug", True), ("--priority=7", False)):
        made = found(sluice, run(*trigger, option).stdout.strip())
        assert (made["status"], made["priority"], made.get("debug_mode", False)) == ("delayed", 7, has_heads)
    assert run("trigger", "nightly report", "--project", "shop", "--delay", "99999999").exit_code == 2


def test_the_wait_for_a_failure_is_a_failure(run: Run, target: WebhookReceiver) -> None:
    """A deployment that waits for a run would go on after its failure."""
    target.script(status(400, body="no such day"))
    result = run("trigger", "nightly report", "--project", "shop", "--wait")
    assert result.exit_code == 1
    assert "dead_letter: 400" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "text", "reason"),
    [
        (("nothing", "--project", "shop"), None, "there is no job nothing in the project shop"),
        (("nightly report",), None, "name one with --project"),
        (("nightly report", "--payload", "{"), None, "the payload is not JSON"),
        (("nightly report", "--payload", '{"a": NaN}'), None, "NaN is no JSON"),
        (("nightly report", "--payload", "[" * 100_000), None, "the payload is not JSON"),
        (("nightly report", "--payload", "@/nowhere"), None, "can't read /nowhere (No such file or directory)"),
        (("nightly report", "--payload", "@"), None, "can't read"),
        (("nightly report", "--payload", "@/dev/null"), None, "/dev/null is not JSON (it is empty)"),
        (("nightly report", "--payload", __file__), None, f"@{__file__} reads the file"),
        (("nightly report", "--payload", "-"), "", "standard input is not JSON (it is empty)"),
        (("nightly report", "--payload", "\udcff"), None, "the payload is not JSON"),
        (("\udcff", "--project", "shop"), None, "is not UTF-8"),
        (("nightly report", "--project", "shop", "--idempotency-key", "x" * 257), None, "idempotency_key"),
        (("nightly report", "--project", "shop", "--url", "nonsense"), None, "http"),
        (("nightly report", "--project", "shop", "--url", "http://127.0.0.1:9/api"), None, "can't be reached"),
    ],
)
def test_what_can_not_be_triggered_gets_a_reason(
    run: Run, arguments: tuple[str, ...], text: str | None, reason: str
) -> None:
    """Who mistypes would read a traceback, or believe that the report is being made."""
    result = run("trigger", *arguments, text=text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr


def test_a_used_up_limit_says_when_to_come_again(run: Run) -> None:
    """A script would try again at once, for an hour."""
    trigger = ("trigger", "limited", "--project", "shop")
    assert run(*trigger).exit_code == 0
    result = run(*trigger)
    assert result.exit_code == 2
    assert "may have 1 runs in 3600 s" in result.stderr
    assert "try again in 3" in result.stderr


def test_a_key_that_may_only_read_is_named(tmp_path: Path) -> None:
    """Who has the key of a dashboard would look for the fault in the payload."""
    options = AccessOptions("0.0.0.0", connection="shop")
    with local_sluice(tmp_path / "s.db", has_jobs=True, options=options) as server:
        accounts = server.access.accounts
        key = accounts.create_key(accounts.open_connection("shop")[0], Role.OPERATOR).secret
        reads = accounts.create_key(accounts.open_connection("shop")[0], Role.VIEWER).secret
        job = {"project_id": "shop", "name": "x", "slug": "x", "endpoint_url": "https://example.com/"}
        made = server.client({"Authorization": f"Bearer {key}"}, "/v1").post("/jobs", json=job)
        assert made.status_code == 201
        url = f"{server.url}/api"
        results = [
            CliRunner().invoke(main, ["trigger", "x", "--url", url], env={"SLUICE_API_KEY": given})
            for given in ("sk_wrong", reads, key)
        ]
        refused = CliRunner().invoke(main, ["schedule", "list", "--url", url], env={"SLUICE_API_KEY": "sk_wrong"})
    assert [result.exit_code for result in results] == [2, 2, 0]
    assert "--role operator" in results[1].stderr
    assert "--role viewer" in refused.stderr


def test_the_client_of_the_document_works(sluice: LocalSluice, target: WebhookReceiver) -> None:
    """Who copies the client from the document would debug ours instead of writing their own."""
    (source,) = re.findall(r"```python\n(import json.*?)```", (ROOT / "docs/jobs-api.md").read_text(), re.DOTALL)
    namespace: dict[str, Any] = {"__name__": "client"}
    exec(compile(source, "client.py", "exec"), namespace)
    jobs = namespace["Jobs"](sluice.url, "sk_any", "shop")
    ended = jobs.wait(jobs.trigger("nightly report", {"day": "2026-02-27"}, priority=3), 0.05)
    assert (ended["status"], ended["priority"]) == ("completed", 3)
    assert target.requests[-1].raw == b'{"day":"2026-02-27"}'
    with pytest.raises(LookupError, match="no job has the slug x"):
        jobs.trigger("x")
    with pytest.raises(RuntimeError, match=r"400: .*priority"):
        jobs.trigger("nightly report", priority=11)


def test_schedules_are_a_table(run: Run) -> None:
    """On a machine without a browser nobody could see when the report comes next."""
    result = run("schedule", "list", "--project", "shop")
    header, row = result.stdout.splitlines()
    assert header.split()[:5] == ["NEXT", "STATE", "SLUG", "CRON", "ZONE"]
    assert "enabled  nightly report  0 3 * * *  Europe/Berlin" in row
    assert (result.exit_code, result.stderr) == (0, "Schedules: 1\n")
    (line,) = run("schedule", "list", "--project", "shop", "--json").stdout.splitlines()
    assert json.loads(line)["slug"] == "nightly report"
    nothing = run("schedule", "list", "--project", "other")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "No job of the project other has a schedule" in nothing.stderr
    for wrong, reason in (("", "name one with --project"), ("http://127.0.0.1:9/api", "is the server running")):
        result = run("schedule", "list", *(("--url", wrong) if wrong else ()))
        assert (result.exit_code, result.stdout) == (2, "")
        assert reason in result.stderr
