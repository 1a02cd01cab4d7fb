"""Runs Python commands in forks of one process that has imported Celery, which costs a new interpreter a second."""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support import python_template

__all__ = ["Fork", "can_fork", "run_fork"]

_ROOT = Path(__file__).resolve().parents[2]
_OWN = {"PYTHONPATH": str(_ROOT), "PYTHONUNBUFFERED": "1"}
_READ_AT_START = ("AUTOSCALE_", "C_", "CELERY_", "KOMBU_", "LD_", "MALLOC_", "PYTHON", "TEST_CLOCK")
"""How the names of variables begin that an interpreter reads at its start, or that change what Celery imports."""


def can_fork(command: Sequence[str], env: Mapping[str, str]) -> bool:
    """Return whether a fork does the same as a new process with this command and environment."""
    template = _environment()
    names = [name for name in {*env, *template} if name.startswith(_READ_AT_START)]
    return (
        command[:1] == [sys.executable]
        and command[1] in {"-c", "-m"}
        and all(env.get(name) == template.get(name) for name in names)
    )


class Fork:
    """A command that runs in a fork."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path, output: int, errors: int) -> None:
        request = {"arguments": list(command[1:]), "env": dict(env), "cwd": str(cwd)}
        self._status, status = os.pipe()
        try:
            socket.send_fds(_template(), [json.dumps(request).encode()], [output, errors, status])
        finally:
            os.close(status)
        self._code: int | None = None
        self.pid = self._read()

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        try:
            return self.wait(0)
        except TimeoutError:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit code. Raise TimeoutError if it has not ended in so many seconds."""
        if self._code is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} runs for longer than {timeout} s")
            self._code = self._read()
            os.close(self._status)
        return self._code

    def _read(self) -> int:
        """Return the number in the next line: the exit code may follow the id already."""
        line = b""
        while not line.endswith(b"\n"):
            if not (byte := os.read(self._status, 1)):
                raise ChildProcessError(f"the process that forks has ended, after {line!r}")
            line += byte
        return int(line)


def run_fork(
    command: Sequence[str], env: Mapping[str, str], timeout: float, cwd: Path = _ROOT
) -> subprocess.CompletedProcess[str]:
    """Do what ``subprocess.run`` does, in a fork, or in a new process if a fork does not do the same.

    Raise TimeoutError or TimeoutExpired if it has not ended in so many seconds; it is killed then.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        if not can_fork(command, env):
            code = subprocess.run(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                timeout=timeout,
                check=False,
            ).returncode
        else:
            fork = Fork(command, env, cwd, output.fileno(), errors.fileno())
            try:
                code = fork.wait(timeout)
            except TimeoutError:
                os.killpg(fork.pid, signal.SIGKILL)
                raise
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(command, code, *texts)


@functools.cache
def _template() -> socket.socket:
    """Start the process that forks; return where it reads requests. It ends with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        command = [sys.executable, "-m", python_template.__name__, str(its.fileno())]
        subprocess.Popen(
            command,
            cwd=_ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[its.fileno()],
        )
    return ours


def _environment() -> dict[str, str]:
    return {**os.environ, **_OWN}
