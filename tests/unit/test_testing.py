"""`sluice_agent.testing.captured_events`: what the tests of an app see, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from celery import Celery, signals
from celery.app import trace
from celery.contrib.testing.worker import start_worker
from celery.signals import Signal
from celery.worker.state import SOFTWARE_INFO

import sluice_agent
from sluice_agent import ConfigError, Event, Settings
from sluice_agent.testing import captured_events
from tests.support.process import ROOT
from tests.support.prompt_broker import PROMPT_BROKER
from tests.support.waiting import wait_until


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app of a user, on a broker in memory."""
    app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    queue = str(uuid.uuid4())  # all brokers in memory of a process are one
    app.conf.update(task_default_queue=queue, task_publish_retry=False, worker_hijack_root_logger=False)
    app.conf.update(broker_transport=PROMPT_BROKER, broker_transport_options={"polling_interval": 0.01})

    @app.task(name="shop.add", shared=False)
    def add(first: int, second: int) -> int:
        sluice_agent.progress(0.5)
        return first + second

    @app.task(name="shop.fail", shared=False)
    def fail() -> None:
        raise ValueError("on purpose")

    app.finalize()
    signals.setup_logging.connect(keep_logging)  # else a worker changes the level of the root logger
    yield app
    signals.setup_logging.disconnect(keep_logging)
    app.close()


def keep_logging(**_: object) -> None:
    """Configure no logging."""


def walk(events: list[Event], name: str = "shop.add") -> list[str]:
    """Return the states of a task's jobs, without reports of progress."""
    jobs = [event.job for event in events if event.job is not None and event.job.name == name]
    return [job.state.value for job in jobs if job.progress is None]


def test_an_eager_task(app: Celery) -> None:
    """Most tests of apps run their tasks eagerly: their ends and errors must be seen."""
    app.conf.task_always_eager = True
    with captured_events() as events:
        assert app.tasks["shop.add"].delay(1, 2).get() == 3
        app.tasks["shop.fail"].delay()
    assert walk(events) == ["active", "completed"]
    assert walk(events, "shop.fail") == ["active", "failed"]
    assert events[-1].job is not None
    assert events[-1].job.error == "ValueError: on purpose"


def test_a_published_task(app: Celery) -> None:
    """The test of a producer, without a worker."""
    with captured_events() as events:
        task_id = app.tasks["shop.add"].delay(1, 2).id
    [event] = events
    assert event.job is not None
    assert (event.job.external_id, event.job.state.value, event.job.queue) == (
        task_id,
        "queued",
        app.conf.task_default_queue,
    )


def test_a_task_that_no_broker_takes(app: Celery) -> None:
    """A test without a broker must see the same as production would send, and the same exception."""
    once = {"socket_connect_timeout": 5, "max_retries": 1, "interval_start": 0}
    app.conf.update(broker_url="redis://127.0.0.1:1", broker_transport=None, broker_transport_options=once)
    with captured_events() as events, pytest.raises(app.tasks["shop.add"].OperationalError):
        app.tasks["shop.add"].apply_async((1, 2), ignore_result=True)
    assert walk(events) == ["queued", "unknown"]


@pytest.mark.parametrize("starts", ["before", "inside"])
def test_a_worker_in_a_thread(app: Celery, starts: str) -> None:
    """`celery_worker` of `celery.contrib.pytest`: a worker that a fixture has started before is captured as well."""
    worker = start_worker(app, perform_ping_check=False, shutdown_timeout=30)
    if starts == "before":
        with worker, captured_events() as events:
            assert app.tasks["shop.add"].delay(1, 2).get(timeout=30) == 3
            wait_until(lambda: "completed" in walk(events))  # it is announced after the result is stored
    else:
        with captured_events() as events, worker:
            assert app.tasks["shop.add"].delay(1, 2).get(timeout=30) == 3
    assert walk(events) == ["queued", "active", "completed"]
    assert len({event.job.extensions["eventId"] for event in events if event.job and event.job.extensions}) == 4


def test_the_options_of_install(app: Celery) -> None:
    """A user tests the hooks that keep secrets inside the company."""
    app.conf.task_always_eager = True

    def hide(event: Event) -> Event | None:
        assert event.job is not None
        if event.job.state.value == "active":
            return None
        return event.model_copy(update={"job": event.job.model_copy(update={"name": "hidden"})})

    with captured_events(
        Settings(capture_args=True, ignore_tasks=("shop.fail",)), before_send=hide, redact=lambda name, _: f"no {name}"
    ) as events:
        app.tasks["shop.add"].delay(1, 2)
        app.tasks["shop.fail"].delay()
        assert sluice_agent.stats()["dropped"] == {"before_send": 2}
    [event] = events
    assert event.job is not None
    assert event.job.name == "hidden"
    assert event.job.extensions is not None
    assert event.job.extensions["result"] == "no result"


@pytest.mark.parametrize(
    ("change", "is_whole"), [({}, True), ({"args": ["hidden", 2]}, False), ({"args": [True, 2]}, False)]
)
def test_arguments_that_the_hook_changes_are_not_whole(app: Celery, change: dict[str, Any], is_whole: bool) -> None:
    """A server would send the job again with what the hook has put in the place of a secret."""
    app.conf.broker_url = "memory://"

    def hide(event: Event) -> Event:
        assert event.job is not None
        assert event.job.extensions is not None
        event.job.extensions.update(change)
        return event

    with captured_events(Settings(capture_args=True), before_send=hide) as events:
        app.tasks["shop.add"].delay(1, 2)
    [event] = events
    assert event.job is not None
    assert event.job.extensions is not None
    assert ("argsWhole" in event.job.extensions) is is_whole
    assert event.job.extensions["kwargs"] == {}


def test_the_settings_of_the_environment(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees what production sends, by the same variables; and the same error for a malformed one."""
    monkeypatch.setenv("SLUICE_IGNORE_TASKS", "shop.add")
    monkeypatch.setenv("SLUICE_ENABLED", "0")
    with captured_events() as events:
        app.tasks["shop.add"].delay(1, 2)
        app.tasks["shop.fail"].delay()
    assert walk(events) == []
    assert walk(events, "shop.fail") == ["queued"]
    monkeypatch.setenv("SLUICE_BATCH_SIZE", "0")
    with pytest.raises(ConfigError), captured_events():
        pass


def test_twice_and_inside_one_another(app: Celery) -> None:
    """A fixture that captures for every test, and a test that captures for itself, must not mix their events."""
    task = app.tasks["shop.add"]
    with captured_events() as outer:
        task.delay(1, 2)
        with captured_events() as inner:
            task.delay(1, 2)
            task.delay(1, 2)
        task.delay(1, 2)
    with captured_events() as second:
        task.delay(1, 2)
    assert [len(outer), len(inner), len(second)] == [2, 2, 1]


def test_blocks_that_end_in_another_order(app: Celery) -> None:
    """Tests in threads, or in tasks of one loop: after them the app would never be reported again."""
    task = app.tasks["shop.add"]
    before = instrumentation()
    with ExitStack() as first, ExitStack() as second:
        older, newer = first.enter_context(captured_events()), second.enter_context(captured_events())
        task.delay(1, 2)
        first.close()
        task.delay(1, 2)
        second.close()
        task.delay(1, 2)
    assert [len(older), len(newer)] == [0, 2]
    assert instrumentation() == before
    assert sluice_agent.stats()["captured"] == 0
    with captured_events() as events:
        task.delay(1, 2)
    assert len(events) == 1


def instrumentation() -> dict[str, Any]:
    """Return what the agent changes in Celery."""
    every = [signal for signal in vars(signals).values() if isinstance(signal, Signal)]
    return {
        "receivers": {signal.name: len(signal.receivers) for signal in every},
        "dispatchers": [signal.send for signal in every] + [trace.send_prerun, trace.send_postrun],
        "marks": dict(SOFTWARE_INFO),
        "methods": {
            (owner, name)
            for owner in subclasses(object)
            for name, method in list(vars(owner).items())
            if type(method) is FunctionType and hasattr(method, "_sluice_agent")
        },
    }


def subclasses(base: type) -> set[type]:
    found: set[type] = set()
    remaining = [base]
    while remaining:
        new = [child for child in type.__subclasses__(remaining.pop()) if child not in found]
        found.update(new)
        remaining.extend(new)
    return found


def test_everything_is_restored(app: Celery) -> None:
    """A test must not change the tests after it: nor their speed, nor the headers of their messages."""
    app.tasks["shop.add"].delay(1, 2)
    before = instrumentation()
    with captured_events():
        app.tasks["shop.add"].delay(1, 2)
        assert len(instrumentation()["methods"]) > 15
    with captured_events() as events:
        app.conf.update(broker_url="redis://127.0.0.1:1", broker_transport=None)
    with pytest.raises(RuntimeError, match="on purpose"), captured_events():
        raise RuntimeError("on purpose")
    assert instrumentation() == before
    app.tasks["shop.add"].apply(args=(1, 2))
    assert events == []
    assert sluice_agent.stats()["captured"] == 0


INSTALLED = """
    import json, os, pathlib, sys
    import sluice_agent
    from sluice_agent.testing import captured_events
    from celery import Celery

    app = Celery("shop", broker="memory://", set_as_current=False)

    @app.task(name="shop.add")
    def add(first, second):
        sluice_agent.progress(0.5)

    def files():
        return sorted(str(path) for path in pathlib.Path(os.environ["SLUICE_STATE_DIR"]).rglob("*.ndjson"))

    def hook(event):
        return event.model_copy(update={"job": event.job.model_copy(update={"name": "hooked"})})

    sluice_agent.install(before_send=hook)
    with captured_events() as events:
        sluice_agent.install()
        add.apply(args=(1, 2))
        add.delay(1, 2)
        inside = sluice_agent.stats()["captured"], sluice_agent.flush(0), files()
    after = sluice_agent.stats()["captured"]
    add.delay(1, 2)
    print(json.dumps([[e.job.name for e in events], inside, after, sluice_agent.stats()["captured"], len(files())]))
"""
KEY = {
    "SLUICE_API_KEY": "sk_test",
    "SLUICE_API_URL": "http://127.0.0.1:9/api",
    "SLUICE_CONNECTION_ID": "11111111-1111-4111-8111-111111111111",
    "SLUICE_SHIP": "never",
}


@pytest.mark.parametrize(("env", "sent_afterwards"), [(KEY, 1), ({}, 0)], ids=["installed", "off"])
def test_beside_an_agent(tmp_path: Path, env: dict[str, str], sent_afterwards: int) -> None:
    """The tests of an app import the module that installs the agent: none of their events may reach production."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INSTALLED)],
        cwd=ROOT,
        env={**inherited, **env, "SLUICE_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    names, inside, after, at_the_end, files = json.loads(ended.stdout)
    assert names == ["hooked"] * 4
    assert inside == [4, True, []]
    assert (after, at_the_end, files) == (0, sent_afterwards, sent_afterwards)
