"""`sluice-agent run`: a try with nothing to set, which changes nothing that was there before."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sluice_agent.commands.run import child_environment, with_agent
from tests.support.process import ROOT
from tests.support.waiting import wait_until

EAGER = """
import os, sys
import sluice_agent
from celery import Celery
sluice_agent.install()
app = Celery("shop", broker="memory://")
@app.task
def add(a, b):
    return a + b
add.apply([1, 2])
print(os.environ["SLUICE_API_URL"])
sys.exit(3)
"""
WAITING = """
import signal, sys, time
def stop(*_):
    print("stopped", flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(60)
"""


def run(*command: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run `sluice-agent run` with this command to its end."""
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT), "SLUICE_ENABLED": "0"}
    words = [sys.executable, "-m", "sluice_agent", "run", "--", *command]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_a_try_captures_prints_the_page_and_leaves_nothing(tmp_path: Path) -> None:
    """A new user would have four variables to set before the first job is seen, and files to remove afterwards.

    Also those of a run that was killed, and not those of one that goes on.
    """
    dead, alive = (tmp_path / f"sluice-run-{name}" for name in ("dead", "alive"))
    for directory in (dead, alive):
        directory.mkdir()
        (directory / "lock").touch()
    with (alive / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = run(sys.executable, "-c", EAGER, tmp_path=tmp_path)
    assert ended.returncode == 3, ended.stderr
    address = ended.stdout.strip().removesuffix("/api")
    assert f"the page, until this command ends: {address}/" in ended.stderr
    assert "captured 2 events = delivered 2 + rejected 0 + dropped 0 + pending 0" in ended.stderr
    assert list(tmp_path.iterdir()) == [alive]


def test_a_command_that_is_not_found_is_named(tmp_path: Path) -> None:
    """A virtual environment that is not active is the first mistake of the first hour."""
    ended = run("no-such-celery", "worker", tmp_path=tmp_path)
    assert ended.returncode == 127
    assert "no-such-celery is not found: is its virtual environment active?" in ended.stderr
    assert "no event was captured" in ended.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 5), (signal.SIGKILL, -signal.SIGKILL)])
def test_the_command_ends_with_the_run(tmp_path: Path, number: int, code: int) -> None:
    """A supervisor that stops the try, or a user who kills it, would leave its worker behind, to consume for ever."""
    out = tmp_path / "out"
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "sluice_agent", "run", "--", sys.executable, "-c", WAITING]
    with out.open("w") as file:
        process = subprocess.Popen(words, env=env, stdout=file, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: "ready" in out.read_text(), 60)
        process.send_signal(number)
        assert process.wait(60) == code
        wait_until(lambda: "stopped" in out.read_text(), 10)
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("celery -A app worker", "celery -A app worker -I sluice_agent.auto"),
        ("python -m celery -A app worker -I a,b -c 2", "python -m celery -A app worker -I a,b,sluice_agent.auto -c 2"),
        ("venv/bin/celery worker --include=a", "venv/bin/celery worker --include=a,sluice_agent.auto"),
        ("celery -A app worker --include a", "celery -A app worker --include a,sluice_agent.auto"),
        ("celery -A app beat", "celery -A app beat"),
        ("gunicorn worker:app", "gunicorn worker:app"),
        ("python manage.py worker", "python manage.py worker"),
    ],
)
def test_a_worker_gets_the_agent(command: str, expected: str) -> None:
    """An app that does not install the agent yet would show an empty page."""
    assert with_agent(command.split()) == expected.split()


def test_a_try_reaches_no_real_destination() -> None:
    """Jobs of a try would be mixed with those of production, or the agent would stay off."""
    inherited = {
        "PATH": "/bin",
        "SLUICE_API_KEY": "sk_real",
        "SLUICE_BASE_URL": "https://sluice.sh",
        "SLUICE_ENABLED": "0",
        "SLUICE_SHIP": "never",
        "SLUICE_CAPTURE_ARGS": "1",
        "ACKLY_INGEST_KEY": "real",
        "NO_PROXY": "internal",
    }
    assert child_environment(inherited, {"SLUICE_API_KEY": "sk_local"}) == {
        "PATH": "/bin",
        "SLUICE_API_KEY": "sk_local",
        "SLUICE_CAPTURE_ARGS": "1",
        "NO_PROXY": "internal,127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
