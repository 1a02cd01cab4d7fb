"""A process that has imported Celery and what it needs, and forks itself for each command that it is asked to run.

A fork is in all else what a new interpreter would be: it has a session, an environment and arguments of its own,
imports the package that is tested, and ends as an interpreter does. `tests/support/python_forks.py` starts it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
import types
from importlib import import_module
from typing import Any

IMPORTS = (
    "celery.app.trace", "celery.apps.worker", "celery.backends.redis", "celery.bin.base", "celery.bin.worker",
    "celery.concurrency.prefork", "celery.events.state", "celery.worker.consumer", "celery.worker.strategy", "httpx",
    "kombu.transport.filesystem", "kombu.transport.memory", "kombu.transport.pyamqp", "kombu.transport.redis",
    "pydantic", "tenacity",
)  # fmt: skip
"""Code of others only."""

MAX_REQUEST = 1_000_000
Request = dict[str, Any]


def serve(requests: socket.socket) -> Request | None:
    """Return, in a fork, the request that it is for. In this process, return None at the end of the requests."""
    signal.signal(signal.SIGCHLD, lambda *_: None)
    ended, wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    statuses: dict[int, int] = {}  # by the ids of the forks that run: where their ends are reported
    while True:
        ready = select.select([requests, ended], [], [])[0]
        if ended in ready:
            os.read(ended, 4_096)
            report_ends(statuses)
        if requests not in ready:
            continue
        text, descriptors, *_ = socket.recv_fds(requests, MAX_REQUEST, 3)
        if not text:
            return None
        output, errors, status = descriptors
        if pid := os.fork():
            statuses[pid] = status
            os.close(output)
            os.close(errors)
        else:
            os.setsid()
            os.write(status, f"{os.getpid()}\n".encode())
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(output, 1)
            os.dup2(errors, 2)
            os.closerange(3, max(output, errors, status, *statuses.values(), ended, wakeup, requests.detach()) + 1)
            request: Request = json.loads(text)
            return request


def report_ends(statuses: dict[int, int]) -> None:
    """Write the exit code of each fork that has ended."""
    for pid, status in list(statuses.items()):
        ended, code = os.waitpid(pid, os.WNOHANG)
        if ended:
            del statuses[pid]
            with contextlib.suppress(BrokenPipeError):  # nobody waits for it
                os.write(status, f"{os.waitstatus_to_exitcode(code)}\n".encode())
            os.close(status)


def run(arguments: list[str], env: dict[str, str], cwd: str) -> None:
    """Do in this process what ``python arguments`` does in a new one."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.path[0] = "" if arguments[0] == "-c" else cwd
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        sys.modules["__main__"] = module = types.ModuleType("__main__")
        exec(compile(arguments[1], "<string>", "exec"), module.__dict__)
    else:
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for name in IMPORTS:
        import_module(name)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        request = serve(requests)
    if request is not None:
        run(**request)
