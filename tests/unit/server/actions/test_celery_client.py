"""Brokers as they are named on the command line, and those that do not answer. Real ones: tests/integration."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from textwrap import dedent

import pytest
from kombu import Connection, Message

from sluice_agent.errors import ConfigError
from sluice_agent.server.actions.assembly import brokers_of
from sluice_agent.server.actions.broker import BrokerAwayError, RejectedError, Sender, TaskMessage
from sluice_agent.server.actions.celery_client import broker_at, broker_of_app

REDIS = "redis://127.0.0.1:1/0"
AMQP = "amqp://guest:secret@127.0.0.1:1//"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nothing listens."""
    with socket.socket() as claim:
        claim.bind(("127.0.0.1", 0))
        yield claim.getsockname()[1]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_away_is_reported_without_its_password(scheme: str, closed_port: int) -> None:
    """A request would wait for ever, or its answer would show the password to every operator."""
    broker = broker_at(f"{scheme}://user:hunter2@127.0.0.1:{closed_port}//")
    for call in (broker.registered_tasks, lambda: broker.revoke(["a"]), lambda: broker.sending().__enter__()):
        with pytest.raises(BrokerAwayError, match="can't be reached") as raised:
            call()
        assert "hunter2" not in str(raised.value)


def test_a_result_backend_that_is_away_is_not_a_job_without_arguments(closed_port: int) -> None:
    """A job would be refused for good because Redis was restarted."""
    broker = broker_at(REDIS, f"redis://127.0.0.1:{closed_port}/1")
    with pytest.raises(BrokerAwayError, match="result backend"):
        broker.stored_call("job")
    assert broker_at(REDIS).stored_call("job") is None


@pytest.mark.parametrize("entry", [b"\x80\x04N.", b"not json", b"[1]", b"{}", b'{"status": "FAILURE", "result": 5}'])
def test_an_entry_that_can_not_be_read_is_no_backend_that_is_away(entry: bytes, tmp_path: Path) -> None:
    """A retry would be put off again and again, and a bulk action would wait at this job for ever."""
    (tmp_path / "celery-task-meta-job").write_bytes(entry)
    with pytest.raises(RejectedError, match="entry in the result backend"):
        broker_at("memory://", tmp_path.as_uri()).stored_call("job")


@pytest.fixture
def memory() -> Iterator[tuple[Sender, Callable[[], Message]]]:
    """A connection to a broker in this process, and a function that takes the message from its queue."""
    with broker_at("memory://").sending() as sender, Connection("memory://") as connection:

        def take() -> Message:
            message = connection.default_channel.basic_get("emails", no_ack=True)
            if message is not None:
                message.accept = {"application/json", "application/x-yaml"}
            return message

        yield sender, take


MESSAGE = TaskMessage("shop.send", [1], {"a": 2}, "emails")


def test_a_message_is_one_of_celery(memory: tuple[Sender, Callable[[], Message]]) -> None:
    """No worker would understand it, or it would lose what the first message had."""
    sender, take = memory
    options = {"time_limit": 9, "soft_time_limit": 8.5, "shadow": "name", "headers": {"tenant": "a"}, "priority": 3}
    sender.send(replace(MESSAGE, serializer="yaml", stamps={"s": ["1"]}, **options), "id", "2026-02-27T10:00:00Z")
    message = take()
    args, kwargs, embed = message.decode()
    assert (args, kwargs, set(embed.values())) == ([1], {"a": 2}, {None})
    assert message.content_type == "application/x-yaml"
    assert message.properties["priority"] == 3
    expected = {
        "task": "shop.send", "id": "id", "retries": 0, "timelimit": [9, 8.5], "shadow": "name", "tenant": "a",
        "root_id": "id", "stamped_headers": ["s"], "stamps": {"s": ["1"]},
        "sluice_agent": {"createdAt": "2026-02-27T10:00:00Z"},
    }  # fmt: skip
    assert expected.items() <= message.headers.items()


@pytest.mark.parametrize("name", ["task", "id", "timelimit", "sluice_agent"])
def test_headers_do_not_change_what_runs(memory: tuple[Sender, Callable[[], Message]], name: str) -> None:
    """A forged event with a header `task` would run a task that nobody has permitted."""
    sender, take = memory
    with pytest.raises(RejectedError, match=name):
        sender.send(replace(MESSAGE, headers={name: "os.system"}), "id", "2026-02-27T10:00:00Z")
    assert take() is None


def test_stamps_do_not_change_what_runs(memory: tuple[Sender, Callable[[], Message]]) -> None:
    """A forged stamp `callbacks` would run a task after the job; one named `task_id` would fail the server."""
    sender, take = memory
    stamps = {"callbacks": [{"task": "os.system"}], "chain": [{"task": "os.system"}], "task_id": "x", "headers": {}}
    sender.send(replace(MESSAGE, stamps=stamps), "id", "2026-02-27T10:00:00Z")
    message = take()
    assert set(message.decode()[2].values()) == {None}
    assert message.headers["stamps"] == stamps
    assert message.headers["id"] == "id"


def test_a_serializer_that_is_not_installed_is_refused(memory: tuple[Sender, Callable[[], Message]]) -> None:
    """A retry in another serializer could be one that the workers do not accept."""
    with pytest.raises(RejectedError, match="own-serializer"):
        memory[0].send(replace(MESSAGE, serializer="own-serializer"), "id", "2026-02-27T10:00:00Z")


def test_brokers_belong_to_connections() -> None:
    """The jobs of one cluster would be sent to another."""
    brokers = brokers_of([f"shop={REDIS}", AMQP], [f"shop={REDIS}"], None, "mail")
    assert brokers.by_connection.keys() == {"shop"}
    assert brokers.default is not None
    assert brokers.default_for == "mail"
    assert brokers_of([], [], None, "mail").default is None
    owner = "550E8400-E29B-41D4-A716-446655440000"
    brokers = brokers_of([f" {owner} ={REDIS}", AMQP], [], None, f" {owner} ")  # as `serve --connection` takes it
    assert {*brokers.by_connection, brokers.default_for} == {owner.lower()}
    query = brokers_of(["redis://127.0.0.1:1/0?ssl_cert_reqs=none"], [], None, None)
    assert query.by_connection == {}


def test_the_broker_of_an_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a queue's key, or a result backend, that only the app knows would be missing."""
    code = """
        from celery import Celery
        app = Celery("shop", broker="memory://", backend="cache+memory://")
        app.conf.update(result_extended=True, broker_transport_options={"global_keyprefix": "shop"})
    """
    (tmp_path / "app_with_broker.py").write_text(dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    broker = brokers_of([], [], "app_with_broker", None).default
    assert broker is not None
    with broker.sending() as sender, Connection("memory://") as connection:
        sender.send(replace(MESSAGE, queue="of-app"), "id", "2026-02-27T10:00:00Z")
        assert connection.default_channel.basic_get("of-app", no_ack=True) is not None
    assert broker.stored_call("id") is None


@pytest.mark.parametrize(
    ("addresses", "backends", "app", "part"),
    [
        ([REDIS, AMQP], [], None, "twice"),
        ([f"a={REDIS}", f"a={AMQP}"], [], None, "twice"),
        ([REDIS], [], "shop", "-A"),
        ([REDIS], [f"a={REDIS}"], None, "--broker a=URL"),
        ([], [REDIS], None, "--broker URL"),
        (["nonsense://x:hunter2@y"], [], None, "malformed"),
        ([], [], "no_such_module_at_all", "no Celery app"),
    ],
)
def test_options_that_do_not_fit_are_refused(addresses: list[str], backends: list[str], app: str, part: str) -> None:
    """The server would start, and the first retry fail."""
    with pytest.raises(ConfigError, match=part) as raised:
        brokers_of(addresses, backends, app, None)
    assert "hunter2" not in str(raised.value)


def test_a_message_goes_to_the_queue_of_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is a task would wait in a queue from which no worker of the app takes."""
    assert broker_at(REDIS).queue_of("shop.mail.send") == "celery"
    source = """
        from celery import Celery

        app = Celery("shop", broker="redis://127.0.0.1:1/0")
        app.conf.task_default_queue = "usual"
        app.conf.task_routes = [{"shop.mail.*": {"queue": "mail"}, "bad": {"exchange": "x"}}]
    """
    (tmp_path / "routed_shop.py").write_text(dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    broker = broker_of_app("routed_shop")
    assert [broker.queue_of(task) for task in ("shop.mail.send", "shop.report")] == ["mail", "usual"]
    with pytest.raises(RejectedError, match="routes of the app"):
        broker.queue_of("bad")


def test_a_message_of_which_nothing_was_reported_has_no_header_of_the_agent(
    memory: tuple[Sender, Callable[[], Message]],
) -> None:
    """The worker would not report that it has received the task: its run would wait without a sign of life."""
    sender, take = memory
    expires = datetime(2026, 2, 27, tzinfo=timezone.utc)
    sender.send(replace(MESSAGE, expires=expires), "id", None)
    headers = take().headers
    assert "sluice_agent" not in headers
    assert headers["expires"] == expires.isoformat()
