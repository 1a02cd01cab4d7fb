"""The messages of mistakes that a new user makes, in a row: each says what is wrong, and what to do.

``pytest -rP tests/unit/commands/test_messages.py`` prints them, to be read one after the other.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from sluice_agent.cli import main

CONNECTION = "11111111-1111-4111-8111-111111111111"
KEY = {"SLUICE_API_KEY": "sk_test", "SLUICE_CONNECTION_ID": CONNECTION}

MISTAKES: list[tuple[str, dict[str, str], str, str]] = [
    ("status", {}, "SLUICE_CONNECTION_ID is not set", "`sluice-agent serve` prints"),
    ("status", {"SLUICE_CONNECTION_ID": "shop"}, "SLUICE_CONNECTION_ID is malformed: 'shop'", "valid UUID"),
    ("status", {**KEY, "SLUICE_API_KEY": "secret"}, "SLUICE_API_KEY is malformed", "begins with sk_"),
    ("status", {"SLUICE_API_KEY": "sk_x"}, "SLUICE_CONNECTION_ID is not set", "must hold the UUID"),
    ("status", {**KEY, "SLUICE_API_URL": "sluice.sh"}, "SLUICE_API_URL is malformed: 'sluice.sh'", "such as https://"),
    (
        "status",
        {**KEY, "SLUICE_API_URL": "http://u:p@s/api"},
        "SLUICE_API_URL is malformed",
        "without user and password",
    ),
    ("status", {**KEY, "SLUICE_BATCH_SIZE": "many"}, "SLUICE_BATCH_SIZE is malformed: 'many'", "valid integer"),
    ("status", {**KEY, "SLUICE_BATCH_SIZE": "0"}, "SLUICE_BATCH_SIZE is malformed: '0'", "greater than or equal to 1"),
    ("status", {**KEY, "SLUICE_SHIP": "maybe"}, "SLUICE_SHIP is malformed: 'maybe'", "'auto' or 'never'"),
    ("status", {**KEY, "SLUICE_HEALTH_ADDR": "8081"}, "SLUICE_HEALTH_ADDR is malformed: '8081'", "such as :8081"),
    ("status", {**KEY, "SLUICE_STATE_DIR": "/proc/none"}, "/proc/none", "SLUICE_STATE_DIR"),
    ("ship", {}, "SLUICE_API_KEY is not set", "it must hold the ingest key"),
    ("monitor", KEY, "name the broker", "--broker URL, SLUICE_BROKER_URL, or --broker-file"),
    ("monitor --broker redis://h --transport-options x", KEY, "--transport-options must be a JSON object", "not 'x'"),
    ("monitor --broker ftp://h", KEY, "ftp", "broker"),
    ("monitor --broker redis://h --durable events", KEY, "durable", "RabbitMQ"),
    ("serve --host 192.0.2.1 --database DB", {}, "can't listen on 192.0.2.1", "choose another host or port"),
    ("serve --database mysql://h", {}, "mysql:// is no database", "use postgresql://… or a file"),
    ("serve --keep soon", {}, "--keep", "7d"),
    ("serve --alerts /nowhere.toml", {}, "/nowhere.toml", "alerts"),
    ("serve --write-env /nowhere/.env", {}, "/nowhere is no directory", "choose another file"),
    (
        "serve --host 0.0.0.0 --api-key sk_x --database DB",
        {},
        "--api-key needs --connection",
        "name the key's connection",
    ),
    ("serve --allow-host http://x --database DB", {}, "--allow-host", "such as sluice.example.com"),
    ("serve --trusted-proxy proxy --database DB", {}, "--trusted-proxy", "such as 10.0.0.0/8"),
    (
        "serve --database DB",
        {"SLUICE_JOBS_REQUEST_LIMITS": "many"},
        "--jobs-request-limits",
        "such as trigger=10,all=100",
    ),
    ("key create --role viewer", {}, "--connection", "--connection"),
    ("jobs --url http://127.0.0.1:9/api", {}, "http://127.0.0.1:9/api", "Connection refused"),
    ("jobs --state finished", KEY, "state: Input should be", "'completed'"),
    ("run", {}, "Missing argument", "COMMAND"),
    ("nonsense", {}, "No such command", "nonsense"),
]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the machine's own variables."""
    for name in [name for name in os.environ if name.startswith(("SLUICE_", "ACKLY_", "CELERY_"))]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("command", "env", "what", "todo"), MISTAKES, ids=[f"{n} {row[0]}" for n, row in enumerate(MISTAKES)]
)
def test_a_mistake_is_explained(
    command: str, env: dict[str, str], what: str, todo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A traceback, or a sentence without a remedy, ends the first hour of a new user."""
    monkeypatch.chdir(tmp_path)
    words = [str(tmp_path / "s.db") if word == "DB" else word for word in command.split()]
    result = CliRunner().invoke(main, words, env={"SLUICE_STATE_DIR": str(tmp_path), **env})
    print(f"$ {' '.join(f'{name}={value}' for name, value in env.items())} sluice-agent {command}\n{result.output}")
    assert result.exit_code in (1, 2)
    assert what in result.output
    assert todo in result.output
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
