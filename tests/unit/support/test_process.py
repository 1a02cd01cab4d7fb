"""No process that a test starts outlives it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.process import ROOT, Process, free_port, listens
from tests.support.waiting import wait_until

FAMILY = "sleep 600 & setsid sleep 601 & echo up; wait"


def _alive(process: int) -> bool:
    return psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE


def test_stop_ends_the_whole_family(tmp_path: Path) -> None:
    """Workers and servers left over by one test would take messages from the next."""
    process = Process(["sh", "-c", FAMILY], tmp_path / "log")
    wait_until(lambda: len(process.children()) == 2, message="the children did not start", context=process.tail)
    family = [child.pid for child in process.children()]
    process.stop()
    wait_until(lambda: not any(map(_alive, family)), message="a process is left over")


def test_a_fork_is_ended_as_a_process_is(tmp_path: Path) -> None:
    """A worker that runs in a fork would be left over, or its exit code would not be known."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    code = "import subprocess, sys; print('celery' in sys.modules, subprocess.Popen(['sleep', '600']).pid)"
    process = Process([sys.executable, "-c", f"{code}; input()"], tmp_path / "log", env, forks=True)
    assert process.wait() == 1, "it has no input"
    assert process.logs().startswith("True ")
    process.stop()
    assert not _alive(int(process.logs().split()[1]))
    process = Process([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log", env, forks=True)
    assert process.running
    process.send(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stop()


def test_a_killed_test_run_leaves_nothing(tmp_path: Path) -> None:
    """A test run that SIGKILL ends cleans up nothing itself; servers would accumulate on an engineer's machine."""
    script = (
        "import os, pathlib, sys; from tests.support.process import Process\n"
        "started = Process(['sleep', '600'], pathlib.Path(sys.argv[1]))\n"
        "print(started.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    wait_until(lambda: not _alive(int(result.stdout)), message="the process outlived the test run")


def test_a_port_is_promised_once_until_its_server_listens() -> None:
    """A RabbitMQ listens seconds after it received its port: if another process gets it meanwhile, a test run fails."""
    port = free_port()
    assert not listens(port), "a test that needs a port that refuses gets one that accepts"
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    for _ in range(2):  # a server that is started again keeps its port
        with socket.create_server(("127.0.0.1", port)):
            assert listens(port)
    assert not listens(port)
