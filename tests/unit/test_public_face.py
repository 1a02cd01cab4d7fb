"""The public names, and the behaviour of install(). Each case runs in its own process, as a process has one agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sluice_agent
from tests.support.endpoint import Endpoint
from tests.support.process import ROOT

PRELUDE = """
import json, logging, os, sys, threading
logging.basicConfig(level=logging.INFO, format="LOG %(levelname)s %(name)s %(message)s", stream=sys.stderr)
import sluice_agent
from sluice_agent import *
from tests.unit.transport.lines import event
from sluice_agent import _public

def capture(number):
    _public._agent.capture(event(number))

def threads():
    return sorted(thread.name for thread in threading.enumerate() if thread.name != "MainThread")
"""
NURSERY = """
import json, os, sys
import anyio, celery.app, celery.fixups.django, celery.loaders.app, celery.signals, httpx, kombu, sluice_agent.signals
import sluice_agent.transport.delivery.shippers, tests.unit.transport.lines
for line in sys.stdin:
    case = json.loads(line)
    child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
os.environ.clear()
os.environ.update(case["env"])
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for number, path in enumerate(case["paths"], 1):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
exec(case["code"])
"""
KEYS = {"captured", "delivered", "rejected", "dropped", "pending", "duplicates"}

Run = Callable[[str, dict[str, str]], tuple[Any, list[str]]]


@pytest.fixture
def env(endpoint: Endpoint, tmp_path: Path) -> dict[str, str]:
    """An agent that ships to the endpoint."""
    return {
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": str(uuid.uuid4()),
        "SLUICE_API_URL": endpoint.url,
        "SLUICE_STATE_DIR": str(tmp_path / "state"),
        "SLUICE_FLUSH_INTERVAL": "0.05",
    }


class Nursery:
    """A process that has imported everything and forks a child for each case: a new interpreter takes half a second."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process = subprocess.Popen([sys.executable, "-c", NURSERY], cwd=ROOT, stdin=-1, stdout=-1, text=True)

    def run(self, code: str, env: dict[str, str]) -> tuple[int, str, str]:
        """Run `code` in its own process; return its exit code, its output and its log."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        paths = [self.directory / "out", self.directory / "err"]
        case = {"code": PRELUDE + code, "env": {**inherited, **env}, "paths": list(map(str, paths))}
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        ended = int(self.process.stdout.readline())
        printed, logged = (path.read_text() for path in paths)
        return ended, printed, logged


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """The process that forks a child for each case."""
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.process.communicate()


@pytest.fixture
def run(nursery: Nursery) -> Run:
    """`run(code, env)` returns the JSON that `code` printed, and the lines that it logged."""

    def in_a_process(code: str, env: dict[str, str]) -> tuple[Any, list[str]]:
        ended, printed, logged = nursery.run(code, env)
        assert ended == 0, logged
        return json.loads(printed or "null"), [line for line in logged.splitlines() if line.startswith("LOG")]

    return in_a_process


def test_the_names_are_those_that_users_import() -> None:
    """A name that goes away breaks every app that imports it."""
    assert (
        sorted(sluice_agent.__all__)
        == sluice_agent.__all__
        == [
            "ConfigError",
            "Event",
            "EventType",
            "Framework",
            "Job",
            "JobState",
            "JournalUnavailableError",
            "Queue",
            "Settings",
            "SluiceError",
            "Stats",
            "Worker",
            "WorkerState",
            "flush",
            "install",
            "progress",
            "shutdown",
            "stats",
        ]
    )
    assert not [name for name in sluice_agent.__all__ if not hasattr(sluice_agent, name)]


def test_without_a_key_it_is_off_and_logs_that_once(run: Run) -> None:
    """A laptop and a test run have no key: they must work, and get the log line once."""
    printed, logged = run(
        "install(); install(); progress(0.5); shutdown(); print(json.dumps([flush(0), stats(), threads()]))", {}
    )
    assert logged == ["LOG INFO sluice_agent sluice-agent is off: SLUICE_API_KEY is not set"]
    assert printed[0] is True
    assert printed[1].keys() == KEYS
    assert printed[2] == []


def test_it_can_be_switched_off(run: Run, env: dict[str, str], tmp_path: Path) -> None:
    """One variable takes it out of a worker, in an emergency, without a new build."""
    printed, logged = run("install(); print(json.dumps(threads()))", {**env, "SLUICE_ENABLED": "0"})
    assert logged == ["LOG INFO sluice_agent sluice-agent is off: SLUICE_ENABLED is 0"]
    assert printed == []
    assert not (tmp_path / "state").exists()


def test_before_install_every_function_is_harmless(run: Run) -> None:
    """A library that reports progress is also used in apps without the agent."""
    printed, logged = run("progress(1); shutdown(); print(json.dumps([flush(0), stats()]))", {})
    assert logged == []
    assert printed == [True, {**dict.fromkeys(KEYS, 0), "dropped": {}}]


def test_a_malformed_setting_is_raised_where_it_is_installed(run: Run, env: dict[str, str]) -> None:
    """A worker that ignores a malformed setting would be noticed only when events are missing."""
    code = "try:\n install()\nexcept ConfigError as error:\n print(json.dumps(str(error)))"
    printed, _ = run(code, {**env, "SLUICE_BATCH_SIZE": "0"})
    assert printed.startswith("SLUICE_BATCH_SIZE is malformed: '0'")


def test_a_second_install_does_nothing(run: Run, env: dict[str, str], endpoint: Endpoint) -> None:
    """`install()` is in a module that is imported twice, and in `sluice_agent.auto`: no event may be duplicated."""
    code = """
install()
from celery import Celery, signals
before = [len(signal.receivers) for signal in (signals.before_task_publish, signals.task_prerun)]
agent = _public._agent
install(); install(Settings(batch_size=1)); import sluice_agent.auto
after = [len(signal.receivers) for signal in (signals.before_task_publish, signals.task_prerun)]
app = Celery("shop", broker="memory://")
app.send_task("app.add", task_id="one")
shutdown()
print(json.dumps([before == after, agent is _public._agent, stats()]))
"""
    (same_handlers, same_agent, stats), _ = run(code, env)
    assert same_handlers
    assert same_agent
    assert (stats["captured"], stats["delivered"]) == (1, 1)
    assert endpoint.states("one") == ["queued"]


def test_no_thread_runs_before_the_first_event(run: Run, env: dict[str, str]) -> None:
    """A thread that is started at import is dead in every child of a web server that forks afterwards."""
    printed, _ = run("install(); before = threads(); capture(1); print(json.dumps([before, threads()]))", env)
    assert printed[0] == []
    assert {name.startswith("sluice-shipper") for name in printed[1]} == {True}


def test_captured_events_are_delivered_when_the_process_ends(run: Run, env: dict[str, str], endpoint: Endpoint) -> None:
    """A script that publishes one task and ends is the commonest producer."""
    run("install(); capture(1)", {**env, "SLUICE_FLUSH_INTERVAL": "60"})
    assert list(endpoint.jobs()) == ["job-1"]


def test_flush_waits_until_all_is_delivered(run: Run, env: dict[str, str], endpoint: Endpoint) -> None:
    """A serverless function is frozen the moment that it returns."""
    code = "install(); capture(1); capture(2); print(json.dumps([flush(10), stats()])); sys.stdout.flush(); os._exit(0)"
    (flushed, stats), _ = run(code, {**env, "SLUICE_FLUSH_INTERVAL": "60"})
    assert flushed is True
    assert stats == {**dict.fromkeys(KEYS, 0), "dropped": {}, "captured": 2, "delivered": 2}
    assert len(endpoint.events) == 2


def test_flush_gives_up_in_time(run: Run, env: dict[str, str], endpoint: Endpoint) -> None:
    """An unreachable endpoint must not block a request of the host."""
    endpoint.down()
    code = """
import time
install(); capture(1); began = time.monotonic()
print(json.dumps([flush(0.3), time.monotonic() - began, stats()])); sys.stdout.flush(); os._exit(0)
"""
    (flushed, seconds, stats), _ = run(code, env)
    assert flushed is False
    assert 0.3 <= seconds < 8
    assert (stats["captured"], stats["pending"]) == (1, 1)


def test_a_process_that_only_writes_never_ships(
    run: Run, env: dict[str, str], endpoint: Endpoint, tmp_path: Path
) -> None:
    """With SLUICE_SHIP=never the worker has no key and no network: the sidecar's container ships."""
    code = "install(); capture(1); shutdown(); print(json.dumps([stats(), threads()]))"
    without_key = {name: value for name, value in env.items() if name != "SLUICE_API_KEY"}
    (stats, threads), _ = run(code, {**without_key, "SLUICE_SHIP": "never"})
    assert (stats["captured"], stats["pending"], threads) == (1, 1, [])
    assert endpoint.requests == []
    assert list((tmp_path / "state").rglob("*.ndjson"))


def test_before_send_changes_drops_and_is_counted(run: Run, env: dict[str, str], endpoint: Endpoint) -> None:
    """The hook is where a user removes data that may not leave the company."""
    code = """
def hook(event):
    if event.job.external_id == "job-1": return None
    if event.job.external_id == "job-2": raise RuntimeError("on purpose")
    if event.job.external_id == "job-3": return {"not": "an event"}
    if event.job.external_id == "job-4": return event.model_copy(update={"job": event.job.model_copy(update={
        "extensions": {"what": object()}})})
    return event.model_copy(update={"job": event.job.model_copy(update={"name": "changed"})})
install(before_send=hook)
for number in range(1, 6): capture(number)
shutdown()
print(json.dumps(stats()))
"""
    stats, logged = run(code, env)
    assert stats["dropped"] == {"before_send": 1, "before_send_error": 3}
    assert stats["captured"] == 5
    assert {name: [event["job"]["name"] for event in events] for name, events in endpoint.jobs().items()} == {
        "job-5": ["changed"]
    }
    assert len([line for line in logged if "before_send raised RuntimeError: on purpose" in line]) == 1


def test_a_journal_that_cannot_be_written_switches_it_off(run: Run, env: dict[str, str], tmp_path: Path) -> None:
    """A read-only volume must not take the worker down; events are counted as dropped, and the fault is logged once."""
    (tmp_path / "file").touch()
    code = "install(); capture(1); capture(2); shutdown(); print(json.dumps([flush(0), stats()]))"
    (flushed, stats), logged = run(code, {**env, "SLUICE_STATE_DIR": str(tmp_path / "file")})
    assert flushed is True
    assert (stats["captured"], stats["dropped"]) == (2, {"journal_unavailable": 2})
    assert len(logged) == 1
    assert "set SLUICE_STATE_DIR" in logged[0]


def test_forked_children_capture_their_own_events(run: Run, env: dict[str, str], endpoint: Endpoint) -> None:
    """A web server forks after import: two processes must not write to one file."""
    code = """
install(); capture(0); flush(10)
children = []
for number in (1, 2):
    child = os.fork()
    if not child:
        capture(number); flush(10); os._exit(0)
    children.append(child)
codes = [os.waitpid(child, 0)[1] for child in children]
capture(3); shutdown()
print(json.dumps([codes, stats()]))
"""
    (codes, stats), _ = run(code, env)
    assert codes == [0, 0]
    assert (stats["captured"], stats["delivered"], stats["duplicates"]) == (4, 4, 0)
    assert sorted(endpoint.jobs()) == ["job-0", "job-1", "job-2", "job-3"]


def test_the_key_is_not_in_what_the_agent_leaves_behind(run: Run, env: dict[str, str], tmp_path: Path) -> None:
    """The journal's directory is shared with a container, and copied into bug reports."""
    run("install(); capture(1); shutdown()", {**env, "SLUICE_API_KEY": "sk_do_not_show"})
    contents = [path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert contents
    assert not [content for content in contents if b"sk_do_not_show" in content]
