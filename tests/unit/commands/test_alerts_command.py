"""`sluice-agent alerts`, beside the database of a server."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sluice_agent.cli import main
from sluice_agent.server.store import IngestBatch, Store
from sluice_agent.server.webhooks.signing import decode_secret
from tests.unit.server.events import CONNECTION, snapshot

RULES = f"""
[webhook.ops]
url = "https://hooks.example.com/x"
secret_env = "OPS_SECRET"

[[rule]]
name = "full"
connection = "{CONNECTION}"
when = "depth"
queue = "mail"
above = 10
webhook = "ops"

[[rule]]
name = "full for long"
connection = "{CONNECTION}"
when = "depth"
queue = "mail"
above = 10
for = "5m"
webhook = "ops"

[[rule]]
name = "quiet"
connection = "{CONNECTION}"
when = "depth"
queue = "mail"
above = 11
webhook = "ops"

[[rule]]
name = "unknown"
connection = "shop"
when = "silence"
worker = "celery@w"
above = "2m"
webhook = "ops"
"""


def check(file: Path, database: Path, **env: str) -> Result:
    return CliRunner().invoke(main, ["alerts", "check", str(file), "--database", str(database)], env=env)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    file = tmp_path / "alerts.toml"
    file.write_text(RULES)
    return file


def test_what_would_fire_now_is_shown(rules: Path, tmp_path: Path) -> None:
    """A rule would be tried out on whoever is on call."""
    store = Store(tmp_path / "s.db", now=lambda: datetime.now(timezone.utc))
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    store.submit(IngestBatch([{**snapshot("mail", 0, 11), "timestamp": now}], now[:10])).result(10)
    result = check(rules, tmp_path / "s.db")  # while the server runs
    store.close()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"{rules}: 4 rules, no error."
    assert [line.split("  ")[0].strip() for line in lines[1:]] == ["fires", "pending", "quiet", "not known"]
    assert "full: 11 jobs are in the queue mail (fires if more than 10 jobs are in the queue mail)" in lines[1]
    assert "there is no connection shop" in lines[4]
    assert "OPS_SECRET is not set" in result.stderr


def test_a_file_with_errors_is_refused(rules: Path, tmp_path: Path) -> None:
    """An error in a rule would show only after the server was restarted with it."""
    rules.write_text(RULES.replace("above = 11", 'above = "many"'))
    result = check(rules, tmp_path / "no.db")
    assert result.exit_code == 2
    assert f"{rules}, line 28: rule 'quiet' above: it must be a whole number from 0, and is 'many'" in result.output


def test_a_file_is_checked_without_a_database(rules: Path, tmp_path: Path) -> None:
    """Rules could not be checked where they are written, and a wrong path would make a database."""
    result = check(rules, tmp_path / "no.db", OPS_SECRET="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert result.exit_code == 0
    assert "nothing is measured" in result.stderr
    assert "OPS_SECRET" not in result.stderr
    assert not (tmp_path / "no.db").exists()


def test_a_new_secret_is_one(tmp_path: Path) -> None:
    """Who sets alerts up would use a secret that the server refuses."""
    first, second = (CliRunner().invoke(main, ["alerts", "secret"]).stdout.strip() for _ in range(2))
    assert len(decode_secret(first)) == 32
    assert first != second


def test_a_server_does_not_start_without_the_secret(rules: Path, tmp_path: Path) -> None:
    """It would run for weeks, and its first alert would fail."""
    arguments = ["serve", "--port", "0", "--database", str(tmp_path / "s.db"), "--alerts", str(rules)]
    for value, message in (("", "OPS_SECRET is not set"), ("secret", "OPS_SECRET holds no secret: it must begin with")):
        result = CliRunner().invoke(main, arguments, env={"OPS_SECRET": value})
        assert result.exit_code == 2
        assert f"webhook 'ops': {message}" in result.output
