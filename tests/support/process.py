"""Processes that tests start, and that never outlive the test run."""

from __future__ import annotations

import functools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support import session_killer
from tests.support.python_forks import Fork, can_fork
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
"""The directory from which the tests run."""

_PORTS_OF_CLIENTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_random = random.SystemRandom()  # without a seed: parallel test runs must not try the same ports
_claims: list[socket.socket] = []


def free_port() -> int:
    """Return a loopback port that is unused, and that no other call returns while this process lives.

    It is below the ports that the kernel gives to clients: a client could take it before its server, which may need
    seconds until it listens. The claim does not listen, so that a server with SO_REUSEADDR (all of ours set it) may
    bind beside it, and the next call, which binds without, may not.
    """
    first_of_clients = int(_PORTS_OF_CLIENTS.read_text().split()[0]) if _PORTS_OF_CLIENTS.exists() else 32_768
    while True:
        port = _random.randrange(max(first_of_clients - 12_000, 1_024), first_of_clients)
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
        else:
            claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _claims.append(claim)
            return port


def listens(port: int) -> bool:
    """Return whether a process accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A command in a new session, with its output in a file.

    `stop()` sends a signal, then kills, and leaves no process of the session; if pytest dies first, the session killer
    ends them. With `forks`, a Python command runs in a fork of a process that has imported Celery, if it does the same
    there.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        *,
        forks: bool = False,
    ) -> None:
        self.command = list(command)
        self.log = log
        self._is_stopped = False
        self._process: Fork | subprocess.Popen[bytes]
        with log.open("ab") as output:
            if forks and env is not None and can_fork(command, env):
                self._process = Fork(command, env, cwd, output.fileno(), output.fileno())
            else:
                self._process = subprocess.Popen(
                    self.command,
                    cwd=cwd,
                    env=dict(env) if env is not None else None,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        _send_to_killer(f"+{self.pid}")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code: None while it runs; minus the signal's number if a signal ended it."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        return self.exit_code is None

    def logs(self) -> str:
        """Return all its output."""
        return self.log.read_text(errors="replace")

    def tail(self, lines: int = 40) -> str:
        """Return the end of its output, for failure messages."""
        return f"--- the end of {self.log.name}:\n" + "\n".join(self.logs().splitlines()[-lines:])

    def children(self) -> list[psutil.Process]:
        """Return the direct and indirect children that are alive."""
        try:
            return [child for child in psutil.Process(self.pid).children(recursive=True) if _is_alive(child)]
        except psutil.NoSuchProcess:
            return []

    def send(self, number: int) -> None:
        """Send a signal to the process itself, not to its children."""
        if self.running:
            os.kill(self.pid, number)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end and return the exit code; fail the test if it does not end in time."""
        wait_until(lambda: not self.running, timeout, f"{self.command[0]} did not end", self.tail)
        code = self.exit_code
        assert code is not None
        return code

    def stop(self, grace: float = 0.0, number: int = signal.SIGTERM) -> None:
        """End it and all processes that it started: with a signal if `grace` seconds are given, else by SIGKILL."""
        if self._is_stopped:
            return  # its id may be another process's by now
        children = self.children()
        if grace and self.running:
            self.send(number)
            deadline = time.monotonic() + grace
            while self.running and time.monotonic() < deadline:
                time.sleep(0.02)
        session_killer.kill_session(self.pid)
        self._process.wait()
        for child in children:  # those in other sessions may still be alive
            with suppress(psutil.NoSuchProcess):
                child.kill()
        wait_until(lambda: not any(map(_is_alive, children)), 10, f"children of {self.command[0]} are left over")
        _send_to_killer(f"-{self.pid}")
        self._is_stopped = True


def _is_alive(process: psutil.Process) -> bool:
    """Return whether the process exists and is no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@functools.cache
def _killer() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-S", "-E", session_killer.__file__], stdin=subprocess.PIPE, start_new_session=True, text=True
    )


def _send_to_killer(line: str) -> None:
    stream = _killer().stdin
    assert stream is not None
    stream.write(f"{line}\n")
    stream.flush()


def in_a_child(action: Callable[[], None]) -> int:
    """Run `action` in a forked child; return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
