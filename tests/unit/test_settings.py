"""Every SLUICE_* and ACKLY_* variable: its default, its bounds, and the error for a malformed one."""

from __future__ import annotations

import os
import pickle
import traceback
import uuid
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.errors import ConfigError
from sluice_agent.model import JobState
from sluice_agent.settings import END_STATES, Settings

CONNECTION = "4976273a-73be-4853-963e-84be35660c96"
SECRET = "sk_live_do_not_show_me"
ACKLY_SECRET = "do_not_show_me_00000000000000000000000000000000"
KEY = {"SLUICE_API_KEY": SECRET, "SLUICE_CONNECTION_ID": CONNECTION}

DEFAULTS = {
    "api_key": None,
    "connection_id": None,
    "api_url": "https://sluice.sh/api",
    "base_url": None,
    "enabled": True,
    "state_dir": None,
    "ship": "auto",
    "flush_interval": 1.0,
    "batch_size": 500,
    "batch_bytes": 1_000_000,
    "journal_max_bytes": 268_435_456,
    "daily_budget": None,
    "heartbeat_interval": 5.0,
    "queues": False,
    "queue_interval": 10.0,
    "ignore_tasks": (),
    "capture_args": False,
    "message_header": True,
    "direct_dispatch": True,
    "health_addr": None,
    "log_level": "info",
    "ackly_ingest_key": None,
    "ackly_url": "https://www.ackly.dev/api/ingest",
    "ackly_tasks": ("*",),
    "ackly_states": ("completed", "failed", "cancelled"),
}
READ = [
    ("SLUICE_CONNECTION_ID", CONNECTION, uuid.UUID(CONNECTION)),
    ("SLUICE_API_URL", "http://localhost:8787/api/", "http://localhost:8787/api"),
    ("SLUICE_API_URL", " http://localhost:8787/api/\n", "http://localhost:8787/api"),
    ("SLUICE_CONNECTION_ID", f"{CONNECTION}\n", uuid.UUID(CONNECTION)),
    ("SLUICE_ENABLED", "0", False),
    ("SLUICE_STATE_DIR", "/var/lib/x", Path("/var/lib/x")),
    ("SLUICE_STATE_DIR", "~/x", Path.home() / "x"),
    ("SLUICE_STATE_DIR", "x", Path.cwd() / "x"),
    ("SLUICE_SHIP", "NEVER", "never"),
    ("SLUICE_FLUSH_INTERVAL", "0.05", 0.05),
    ("SLUICE_FLUSH_INTERVAL", "60", 60.0),
    ("SLUICE_BATCH_SIZE", "1", 1),
    ("SLUICE_BATCH_SIZE", "10000", 10_000),
    ("SLUICE_BATCH_BYTES", "1000", 1_000),
    ("SLUICE_BATCH_BYTES", "50000000", 50_000_000),
    ("SLUICE_JOURNAL_MAX_BYTES", "1000000", 1_000_000),
    ("SLUICE_DAILY_BUDGET", "10000", 10_000),
    ("SLUICE_HEARTBEAT_INTERVAL", "0", 0.0),
    ("SLUICE_QUEUES", "1", True),
    ("SLUICE_QUEUE_INTERVAL", "86400", 86_400.0),
    ("SLUICE_QUEUE_INTERVAL", "0", 0.0),
    ("SLUICE_IGNORE_TASKS", " app.a* , ,app.b", ("app.a*", "app.b")),
    ("SLUICE_CAPTURE_ARGS", "1", True),
    ("SLUICE_MESSAGE_HEADER", "0", False),
    ("SLUICE_DIRECT_DISPATCH", "0", False),
    ("SLUICE_HEALTH_ADDR", ":8081", ":8081"),
    ("SLUICE_HEALTH_ADDR", "127.0.0.1:65535", "127.0.0.1:65535"),
    ("SLUICE_HEALTH_ADDR", "[::1]:8081", "[::1]:8081"),
    ("SLUICE_HEALTH_ADDR", "::1:8081", "::1:8081"),
    ("SLUICE_LOG_LEVEL", "DEBUG", "debug"),
    ("ACKLY_URL", "http://localhost:9000/in/", "http://localhost:9000/in"),
    ("ACKLY_TASKS", "billing.*, app.nightly", ("billing.*", "app.nightly")),
    ("ACKLY_STATES", "failed,cancelled", ("failed", "cancelled")),
]
REFUSED = [
    ("SLUICE_CONNECTION_ID", "mine", "UUID"),
    ("SLUICE_API_URL", "sluice.sh", "https://sluice.sh/api"),
    ("SLUICE_API_URL", "ftp://sluice.sh", "https://sluice.sh/api"),
    ("SLUICE_API_URL", "https://sluice.sh/api?x=1", "https://sluice.sh/api"),
    ("SLUICE_API_URL", "https://sluice.sh:99999", "port from 0 to 65535"),
    ("SLUICE_API_URL", "http://[::1", "https://sluice.sh/api"),
    ("SLUICE_API_URL", "https://slu ice.sh/api", "without spaces"),
    ("SLUICE_API_URL", "https://sluice..sh/api", "https://sluice.sh/api"),
    ("SLUICE_BASE_URL", "sluice.sh", "https://sluice.sh"),
    ("SLUICE_STATE_DIR", "~nobody-of-that-name/x", "home"),
    ("SLUICE_ENABLED", "maybe", "boolean"),
    ("SLUICE_SHIP", "sometimes", "'auto' or 'never'"),
    ("SLUICE_FLUSH_INTERVAL", "0", "0.05"),
    ("SLUICE_FLUSH_INTERVAL", "61", "60"),
    ("SLUICE_FLUSH_INTERVAL", "nan", "finite"),
    ("SLUICE_BATCH_SIZE", "0", "1"),
    ("SLUICE_BATCH_SIZE", "10001", "10000"),
    ("SLUICE_BATCH_SIZE", "many", "integer"),
    ("SLUICE_BATCH_BYTES", "999", "1000"),
    ("SLUICE_BATCH_BYTES", "50000001", "50000000"),
    ("SLUICE_JOURNAL_MAX_BYTES", "999999", "1000000"),
    ("SLUICE_DAILY_BUDGET", "0", "1"),
    ("SLUICE_HEARTBEAT_INTERVAL", "-1", "0"),
    ("SLUICE_HEARTBEAT_INTERVAL", "inf", "finite"),
    ("SLUICE_QUEUES", "many", "boolean"),
    ("SLUICE_QUEUE_INTERVAL", "86401", "86400"),
    ("SLUICE_CAPTURE_ARGS", "some", "boolean"),
    ("SLUICE_HEALTH_ADDR", "8081", "[host]:port"),
    ("SLUICE_HEALTH_ADDR", ":70000", "[host]:port"),
    ("SLUICE_HEALTH_ADDR", "http://0.0.0.0:8081", "[host]:port"),
    ("SLUICE_HEALTH_ADDR", "a b:8081", "[host]:port"),
    ("SLUICE_LOG_LEVEL", "loud", "'info'"),
    ("ACKLY_URL", "ackly.dev", "https://www.ackly.dev/api/ingest"),
    ("ACKLY_TASKS", ",", "at least one name"),
    ("ACKLY_STATES", ",", "at least one name"),
]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the machine's own variables."""
    for name in [name for name in os.environ if name.startswith(("SLUICE_", "ACKLY_"))]:
        monkeypatch.delenv(name)


def variable_of(field: str) -> str:
    return field.upper() if field.startswith("ackly_") else f"SLUICE_{field.upper()}"


def field_of(variable: str) -> str:
    return variable.removeprefix("SLUICE_").lower()


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def refusal(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> str:
    set_all(monkeypatch, variables)
    with pytest.raises(ConfigError) as caught:
        Settings()
    return str(caught.value)


def test_the_defaults_are_those_of_the_documentation() -> None:
    """A user who sets nothing expects the values in the table of variables."""
    assert asdict(Settings()) == DEFAULTS


@pytest.mark.parametrize(("variable", "text", "value"), READ)
def test_a_variable_is_read(monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: Any) -> None:
    """A setting that is ignored is noticed only in production."""
    monkeypatch.setenv(variable, text)
    assert getattr(Settings(), field_of(variable)) == value


def test_every_variable_is_read_in_some_test() -> None:
    """A variable that no test sets could be renamed under its users."""
    tested = {field_of(variable) for variable, _, _ in READ}
    assert tested | {"api_key", "base_url", "ackly_ingest_key"} == {field.name for field in fields(Settings)}


@pytest.mark.parametrize("variable", sorted(variable_of(name) for name in DEFAULTS))
def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Compose files pass variables on as empty texts: a worker must start all the same."""
    monkeypatch.setenv(variable, "")
    assert asdict(Settings()) == DEFAULTS


@pytest.mark.parametrize(("variable", "text", "rule"), REFUSED)
def test_a_malformed_variable_is_named_with_its_allowed_values(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, rule: str
) -> None:
    """A user who deploys must be able to correct the setting from the one line in the log."""
    message = refusal(monkeypatch, {variable: text})
    assert message.startswith(f"{variable} is malformed: {text!r} ")
    assert rule in message.removeprefix(f"{variable} is malformed: {text!r} ")


def test_two_malformed_variables_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each deployment that shows only the next fault costs another deployment."""
    message = refusal(monkeypatch, {"SLUICE_BATCH_SIZE": "0", "SLUICE_SHIP": "x"})
    assert "SLUICE_BATCH_SIZE" in message
    assert "SLUICE_SHIP" in message


def test_the_older_name_of_the_endpoint_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users of the vendor's own SDK have SLUICE_BASE_URL, which has no /api; the newer name takes precedence."""
    set_all(monkeypatch, {"SLUICE_BASE_URL": "https://eu.sluice.sh/"})
    assert Settings().ingest_url == "https://eu.sluice.sh/api/ingest"
    set_all(monkeypatch, {"SLUICE_API_URL": "https://us.sluice.sh/api"})
    assert Settings().ingest_url == "https://us.sluice.sh/api/ingest"


def test_an_argument_overrides_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`install(Settings(batch_size=…))` must not be overridden by the machine's environment."""
    monkeypatch.setenv("SLUICE_BATCH_SIZE", "7")
    assert Settings(batch_size=9).batch_size == 9


def test_an_argument_that_is_no_setting_is_refused() -> None:
    """A typo in `install(Settings(…))` would leave the default in force, unseen."""
    with pytest.raises(TypeError, match="there is no setting batchsize"):
        Settings(batchsize=9)


@pytest.mark.parametrize(
    ("variables", "active"),
    [
        ({}, False),
        (KEY, True),
        ({**KEY, "SLUICE_ENABLED": "0"}, False),
        ({"SLUICE_CONNECTION_ID": CONNECTION}, False),
        ({"SLUICE_CONNECTION_ID": CONNECTION, "SLUICE_SHIP": "never"}, True),
        ({"SLUICE_SHIP": "never"}, False),
        ({"ACKLY_INGEST_KEY": ACKLY_SECRET}, True),
        ({"ACKLY_INGEST_KEY": ACKLY_SECRET, "SLUICE_ENABLED": "0"}, False),
    ],
)
def test_when_the_agent_is_on(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], active: bool) -> None:
    """A worker beside a shipping container has no key and captures; a laptop without a key does nothing."""
    set_all(monkeypatch, variables)
    assert Settings().active is active


def test_a_key_without_its_connection_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event would be refused by the endpoint, one by one."""
    message = refusal(monkeypatch, {"SLUICE_API_KEY": SECRET})
    assert "SLUICE_CONNECTION_ID is not set" in message
    assert SECRET not in message


def test_ackly_alone_needs_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a Sluice account has no connection either, and still gets a journal of a fixed name."""
    set_all(monkeypatch, {"ACKLY_INGEST_KEY": ACKLY_SECRET})
    assert Settings().connection == uuid.UUID(int=0)
    set_all(monkeypatch, {"SLUICE_CONNECTION_ID": CONNECTION})
    assert Settings().connection == uuid.UUID(CONNECTION)


def test_a_state_that_is_not_sent_to_ackly_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who lists `retrying` there would wait for events that never come."""
    message = refusal(monkeypatch, {"ACKLY_STATES": "failed,retrying"})
    assert message == "ACKLY_STATES is malformed: 'retrying' should be 'completed', 'failed' or 'cancelled'"


def test_an_empty_argument_is_no_address() -> None:
    """An empty variable counts as unset; an empty argument is a mistake in the caller's code."""
    with pytest.raises(ConfigError, match="SLUICE_HEALTH_ADDR is malformed"):
        Settings(health_addr="")


def test_an_argument_overrides_an_ackly_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`install(Settings(ackly_states=…))` must not be overridden by the machine's environment."""
    set_all(monkeypatch, {"ACKLY_STATES": "completed", "ACKLY_INGEST_KEY": ACKLY_SECRET})
    settings = Settings(ackly_states="failed", ackly_ingest_key="another")
    assert settings.ackly_states == ("failed",)
    assert settings.ackly_ingest_key is not None
    assert settings.ackly_ingest_key.get_secret_value() == "another"


def test_the_key_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings end up in logs and error trackers: a key in them is a key that must be revoked."""
    set_all(monkeypatch, {**KEY, "ACKLY_INGEST_KEY": ACKLY_SECRET})
    settings = Settings()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == SECRET
    shown = [repr(settings), str(settings), repr(asdict(settings)), repr(vars(settings))]
    assert not [text for text in shown if "do_not_show_me" in text]
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize(
    "variables",
    [
        {"SLUICE_API_KEY": "live_do_not_show_me"},
        {"SLUICE_API_KEY": SECRET + " with spaces"},
        {"SLUICE_API_KEY": SECRET + "é"},
        {**KEY, "SLUICE_BATCH_SIZE": "0"},
        {"SLUICE_API_KEY": SECRET},
        {"SLUICE_CONNECTION_ID": SECRET},
        {"SLUICE_API_URL": SECRET},
        {"SLUICE_API_URL": "https://bob:do_not_show_me@sluice.sh/api"},
        {"ACKLY_INGEST_KEY": ACKLY_SECRET + " with spaces", "SLUICE_BATCH_SIZE": "0"},
        {"ACKLY_INGEST_KEY": SECRET, "SLUICE_BATCH_SIZE": "0"},
        {"ACKLY_URL": SECRET, "SLUICE_BATCH_SIZE": "0"},
    ],
)
def test_the_key_is_in_no_error(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """A malformed setting is logged by the host, even if the key was put into the wrong variable."""
    set_all(monkeypatch, variables)
    with pytest.raises(ConfigError) as caught:
        Settings()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "do_not_show_me" not in shown
    assert "SLUICE_" in shown


def test_a_relative_directory_where_the_current_one_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment removes its old release under a process that lives: `install()` raises no FileNotFoundError."""
    (tmp_path / "release").mkdir()
    monkeypatch.chdir(tmp_path / "release")
    (tmp_path / "release").rmdir()
    monkeypatch.setenv("SLUICE_STATE_DIR", "x")
    with pytest.raises(ConfigError, match="SLUICE_STATE_DIR is malformed: 'x' must be an absolute path"):
        Settings()


def test_the_ends_that_can_be_chosen_are_those_of_the_model() -> None:
    """An end that no variable can name would never reach Ackly."""
    assert set(END_STATES) == {state.value for state in JobState if state.is_final}
